"""What a controller needs that is started again while the nodes of its run train on."""
