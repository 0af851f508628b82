"""`make faults`: bad inputs and kills, and what became of them."""
