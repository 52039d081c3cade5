"""Everything with reset and step; importing this package registers the ids."""
