"""What all pages share: safe rendering of model text, who is at the other end, and headers that hold attacks off."""
