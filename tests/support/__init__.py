"""What tests share beyond fixtures: warehouses, stores, histories, and the emulator in this process."""
