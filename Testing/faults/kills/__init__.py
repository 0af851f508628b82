"""Kills processes at random moments, and checks the state afterwards."""

from faults.kills import commands, training, worker
from faults.kills.killing import Kind

KILLS = {
    "worker": Kind(0.3, worker.computing),
    "parent": Kind(0.15, worker.orphaned),
    "segment": Kind(0.15, commands.segmenting),
    "batch": Kind(0.15, commands.many_cases),
    "import": Kind(0.13, commands.importing),
    "train": Kind(0.04, training.learning),
    "evaluate": Kind(0.04, training.evaluating),
    "publish": Kind(0.04, training.publishing),
}
