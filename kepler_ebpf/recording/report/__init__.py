"""What a recording has of a range of time: summed by group and by step, and in several forms."""
