// The pictures of trials: loaded ahead, in the size that is shown, those of a trial in one reply.
//
// All parts of the page share what is loaded. What is said while somebody waits counts bytes that have really arrived.

const LOAD_ATTEMPTS = 4;
const PICTURE_RETRY_MS = [500, 1000, 2000, 4000];

function sharedPictures(settings) {
  window.vimiPictures ??= new Pictures();
  window.vimiPictures.settings = settings;
  return window.vimiPictures;
}

class Pictures {
  constructor() {
    this.bundles = new Map();
    this.wanted = [];
    this.running = false;
    this.speed = Number(readSession("vimi-speed")) || 0; // bytes a second, of the fastest of the last replies
    this.latest = [];
  }

  // Side of a reference on this screen, in device pixels: as trial.css lays it out.
  get side() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
    const { innerWidth: width, innerHeight: height, devicePixelRatio: ratio } = window;
    return Math.min((width - 24.5 * rem) / 6, (width - 9 * rem) / 7.7, (height - 10.5 * rem) / 3 - 6) * (ratio || 1);
  }

  // How pictures are asked for now.
  get rendition() {
    const { pictures, sizes, trial_bytes, shortest_ms } = this.settings;
    if (pictures === "original") return "original";
    const size = sizes.find((one) => one >= this.side) ?? "full";
    // Lossless pictures of a trial must arrive in half of the shortest time that a trial takes.
    const enough = !this.speed || this.speed * (shortest_ms / 2000) >= trial_bytes;
    const kind = pictures === "automatic" ? (enough ? "lossless" : "compact") : pictures;
    return `${kind}-${size}`;
  }

  static key(names) {
    return [...new Set(names)].sort().join(".");
  }

  // Load the pictures of a trial; prefetching and showing share one request.
  load(names) {
    const key = Pictures.key(names);
    let bundle = this.bundles.get(key);
    if (!bundle) {
      bundle = { key, names: key.split("."), rendition: this.rendition, received: 0, total: 0, size: 0, told: null };
      bundle.loaded = this.fetchBundle(bundle);
      bundle.loaded.catch(() => this.bundles.delete(key));
      this.bundles.set(key, bundle);
    }
    return bundle;
  }

  async fetchBundle(bundle) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.fetchOnce(bundle, attempt);
      } catch (error) {
        if (attempt + 1 >= LOAD_ATTEMPTS) throw error;
        await new Promise((done) => setTimeout(done, PICTURE_RETRY_MS[attempt]));
      }
    }
  }

  async fetchOnce(bundle, attempt) {
    const again = attempt ? `?again=${attempt}` : "";
    const response = await fetch(`${this.settings.root}pictures/${bundle.rendition}/${bundle.key}${again}`);
    if (!response.ok) throw new Error(`pictures: ${response.status}`);
    const begun = performance.now();
    bundle.total = Number(response.headers.get("content-length")) || 0;
    bundle.received = 0;
    const parts = [];
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      bundle.received += value.length;
      bundle.told?.(bundle);
    }
    if (bundle.total && bundle.received !== bundle.total) throw new Error("pictures: cut short");
    this.measure(bundle.received, performance.now() - begun);
    const body = new Uint8Array(await new Blob(parts).arrayBuffer());
    const view = new DataView(body.buffer);
    const addresses = new Map();
    let at = 0;
    for (const name of bundle.names) {
      const length = view.getUint32(at);
      addresses.set(name, URL.createObjectURL(new Blob([body.subarray(at + 4, at + 4 + length)])));
      at += 4 + length;
    }
    if (at !== body.length) throw new Error("pictures: of another length");
    bundle.size = body.length;
    bundle.addresses = addresses;
    return addresses;
  }

  // A reply from the browser's own store says nothing of the network, and looks faster than any.
  measure(bytes, ms) {
    if (bytes < 20000) return;
    this.latest = [...this.latest.slice(-2), bytes / Math.max(ms / 1000, 0.001)];
    this.speed = Math.max(...this.latest);
    try {
      sessionStorage.setItem("vimi-speed", String(Math.round(this.speed)));
    } catch {
      // A browser without storage measures anew.
    }
  }

  // Load what comes next, one trial after the other, as far as the budget goes.
  ahead(trials) {
    this.wanted = trials.map(Pictures.key);
    if (!this.running) this.fill();
  }

  async fill() {
    this.running = true;
    try {
      for (let key; (key = this.wanted.find((one) => !this.bundles.get(one)?.addresses)); ) {
        const kept = [...this.bundles.values()].reduce((sum, bundle) => sum + bundle.size, 0);
        if (kept > this.settings.budget) break;
        try {
          await this.load(key.split(".")).loaded;
        } catch {
          break; // whoever needs it asks again, and says so
        }
      }
    } finally {
      this.running = false;
    }
  }

  // Forget what was loaded, but for these trials.
  keep(trials) {
    const kept = new Set(trials.map(Pictures.key));
    for (const [key, bundle] of this.bundles) {
      if (kept.has(key) || !bundle.addresses) continue;
      for (const address of bundle.addresses.values()) URL.revokeObjectURL(address);
      this.bundles.delete(key);
    }
  }
}

function readSession(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

