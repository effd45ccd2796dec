"""What an assimilation has to beat: persistence, climatology, interpolation, ensemble Kalman filters, advection."""
