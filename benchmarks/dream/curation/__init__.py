"""What curation finds of what is planted: faults, cuts and duplicates in MuJoCo video; its speed; kills."""
