"""What a tick would do, read and decided before anything is done. Changes nothing."""
