"""The world → facts and events. Nothing here judges."""
