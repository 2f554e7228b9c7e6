"""What runs used and cost: counted from what workers tell, shown by day, instance and model."""
