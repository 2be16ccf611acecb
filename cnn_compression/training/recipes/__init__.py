"""What a preset trains, and how: one file for each kind of model."""
