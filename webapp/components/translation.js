// Pages are marked as not to be translated. Where a browser's translator or an extension does so all the same, it puts
// <font> elements in the place of texts; the page's own script then misses the texts that it made, and breaks. Here
// it gets what stands in their place, and a text that changes comes back in the place of its old translation.
(() => {
  const standIns = new WeakMap();
  const changed = new MutationObserver((records) => {
    for (const { target } of records) {
      const other = standIns.get(target);
      if (other?.parentNode && !target.parentNode) other.replaceWith(target);
    }
  });
  new MutationObserver((records) => {
    let gone = [];
    for (const record of records) {
      for (const node of record.removedNodes) if (node.nodeType === Node.TEXT_NODE) gone.push([record.target, node]);
    }
    gone = gone.filter(([, node]) => !node.isConnected);
    if (!gone.length) return;
    for (const record of records) {
      for (const node of record.addedNodes) {
        if (node.nodeName !== "FONT" || !node.parentNode) continue;
        const place = gone.findIndex(([parent]) => parent === record.target);
        if (place < 0) continue;
        const [[, text]] = gone.splice(place, 1);
        standIns.set(text, node);
        changed.observe(text, { characterData: true });
      }
    }
  }).observe(document, { childList: true, subtree: true });

  // The child of a parent in which a node lies now, or what stands in its place.
  const inside = (parent, node) => {
    for (let here = node; here; here = here.parentNode ?? standIns.get(here)) if (here.parentNode === parent) return here;
    return null;
  };
  const { removeChild, insertBefore, replaceChild } = Node.prototype;
  Node.prototype.removeChild = function (child) {
    if (child?.parentNode === this) return removeChild.call(this, child);
    const here = child instanceof Node ? inside(this, child) : null;
    if (here) removeChild.call(this, here);
    else if (!(child instanceof Node)) return removeChild.call(this, child);
    return child;
  };
  Node.prototype.insertBefore = function (added, before) {
    if (!(before instanceof Node) || before.parentNode === this) return insertBefore.call(this, added, before);
    return insertBefore.call(this, added, inside(this, before));
  };
  Node.prototype.replaceChild = function (added, old) {
    if (!(old instanceof Node) || old.parentNode === this) return replaceChild.call(this, added, old);
    const here = inside(this, old);
    if (here) replaceChild.call(this, added, here);
    else insertBefore.call(this, added, null);
    return old;
  };
})();
