"""Every frame that crosses a module border, and rows in the types of columns."""
