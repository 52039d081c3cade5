"""Does a dream obey physics? The eight scenarios of Cosmos §5.3 in MuJoCo, dreamed on from one frame or from nine."""
