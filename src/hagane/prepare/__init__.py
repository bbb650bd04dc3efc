"""Documents to chunks: cleaned, judged, compared and cut; why something was left out is always kept."""
