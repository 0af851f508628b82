"""`make faults`: bad inputs and kills, and how the program reacts to them."""
