"""How each kind of operation is run and recorded: the right-hand side of :data:`captum_clrp.engine.operations.TABLE`.

A handler gets an :class:`~captum_clrp.engine.handlers.operation.Operation`, decides which tensors receive relevance and by
which rule, and runs it. What distinguishes the functions that share a handler are keyword arguments, which a row of the table
fixes.
"""
