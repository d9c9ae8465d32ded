def export(): pass
