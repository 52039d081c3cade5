"""What a world model learns from: episodes on disk, and the windows cut from them."""
