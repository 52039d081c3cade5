"""Does a dreamed picture obey the camera? Sampson errors with MuJoCo's exact fundamental matrices."""
