// How a free text is written, in numbers: how many keys, how fast, how much was pasted. Never the text, never a key.

const writers = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  let writer = writers.get(parentElement);
  if (!writer) {
    writer = new Writer(data);
    writers.set(parentElement, writer);
  }
  return () => {
    writers.delete(parentElement);
    writer.send();
    writer.listeners.abort();
  };
}

class Writer {
  constructor(data) {
    this.data = data;
    this.seen = { keys: 0, pastes: 0, pasted: 0, inserted: 0, scripted: 0 };
    this.between = [];
    this.first = this.last = this.lastKey = null;
    this.keyed = false;
    this.length = 0;
    this.listeners = new AbortController();
    const options = { capture: true, signal: this.listeners.signal };
    for (const kind of ["keydown", "paste", "drop", "input", "focusout"]) {
      document.addEventListener(kind, (event) => this.see(kind, event), options);
    }
    window.addEventListener("pagehide", () => this.send(), options);
  }

  see(kind, event) {
    const field = event.target;
    if (!(field instanceof HTMLTextAreaElement)) return;
    if (kind === "focusout") return this.send();
    this.first ??= event.timeStamp;
    this.last = event.timeStamp;
    if (!event.isTrusted) this.seen.scripted += 1;
    if (kind === "keydown") {
      this.keyed = true;
      if (event.repeat) return;
      this.seen.keys += 1;
      if (this.lastKey !== null && this.between.length < 5000) this.between.push(event.timeStamp - this.lastKey);
      this.lastKey = event.timeStamp;
    } else if (kind === "paste" || kind === "drop") {
      this.seen.pastes += 1;
      this.pasting = true;
    } else {
      const more = Math.max(field.value.length - this.length, 0);
      this.length = field.value.length;
      if (this.pasting || ["insertFromPaste", "insertFromDrop"].includes(event.inputType)) this.seen.pasted += more;
      else if (!this.keyed || more > 20) this.seen.inserted += more;
      this.keyed = this.pasting = false;
    }
    this.changed = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), 800);
  }

  send() {
    clearTimeout(this.timer);
    if (!this.changed) return;
    this.changed = false;
    const sorted = [...this.between].sort((a, b) => a - b);
    const message = { participant: this.data.participant, ...this.seen, seconds: (this.last - this.first) / 1000 };
    if (sorted.length) message.key_ms = Math.round(sorted[Math.floor(sorted.length / 2)] * 10) / 10;
    fetch(`${this.data.root}api/writing`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(message), keepalive: true,
      cache: "no-store", credentials: "same-origin",
    }).catch(() => {});
  }
}
