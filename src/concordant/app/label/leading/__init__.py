"""What a lead does with projects: ask questions, settle what holds for them, know some answers, take the votes out."""
