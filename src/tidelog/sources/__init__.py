"""What produces: openers, which wait, and translators, which are pure."""
