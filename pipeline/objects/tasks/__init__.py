"""What the workers do: tasks per block, group or layer, and the files that they leave."""
