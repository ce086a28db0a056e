"""Training: phases, epoch loops, schedules, checkpoints; a resumed run equals one never stopped."""
