"""Check that a data set has captions, before the first step: without any, a text model learns nothing."""
import logging
from pathlib import Path

from .sets.listing import counted, first_few
from .sets.metadata import TEXTS

log = logging.getLogger(__name__)
LOOKED_FOR = (f"metadata.csv or metadata.jsonl with a column file_name and one of {', '.join(TEXTS)}; "
              "captions.txt as in Flickr8k; a .txt or .caption beside each picture")


def check_captions(dataset) -> None:
    """Warn, with an example, if some images of a data set have no caption.

    ValueError in one line if none has any: it says what was looked for, and which files were left unread.
    Data sets that are drawn, not read, have captions always."""
    whole = getattr(dataset, "dataset", dataset)                # of a HoldoutSplit, both parts together
    listing = getattr(whole, "listing", None)
    if listing is None:
        return
    silent = [k for k, texts in enumerate(listing.captions) if not any(texts)]
    unread = f"; not read: {first_few(listing.unread)}" if listing.unread else ""
    total = len(listing.pictures)
    if len(silent) == total:
        raise ValueError(f"this model reads captions, and there are none for {counted(total, 'picture')}; "
                         f"looked for {LOOKED_FOR}{unread}")
    if silent:
        example = listing.pictures[silent[0]]
        log.warning("%d of %s without a caption, such as %s%s", len(silent), counted(total, "picture"),
                    Path(example).name if isinstance(example, Path) else f"number {silent[0]}", unread)
