"""From joules to grams of CO2e. `intensity` says how many grams a kilowatt-hour costs at a place, and why."""
