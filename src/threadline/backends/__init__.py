"""The stores: each module implements `threadline.backend.Backend`. Nothing is imported from here."""
