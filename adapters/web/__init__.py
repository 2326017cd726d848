"""What people see in a browser and what programs ask by HTTP. Translates; decides nothing."""
