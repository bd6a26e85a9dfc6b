"""What is minimised. Each file gives one factory: from models and settings to an `Objective`.

An objective sees a micro-batch and the denominators of the optimiser step it belongs to, and
calls the equation in `core`. How rows were padded, sorted or split is not its business.
"""
