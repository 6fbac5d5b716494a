from .imi import (
    import_imi as import_imi,
)
from .mapping import (
    Mapping as Mapping,
    read_mapping as read_mapping,
)
from .tables import (
    import_csv as import_csv,
)
