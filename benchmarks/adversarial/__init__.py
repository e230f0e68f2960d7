"""Right engines that round as badly as the model lets them, against the budgets."""
