"""What can be set: experiments and tasks, as dataclasses."""
