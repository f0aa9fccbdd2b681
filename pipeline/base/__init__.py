"""What every room stands on: errors, geometry, stores, scheduling. Imports no other room."""
