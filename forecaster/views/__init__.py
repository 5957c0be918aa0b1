"""What a user looks at: a track, the catalogue, forecasts against what came after."""
