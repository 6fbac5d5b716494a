// The device check: window, family of the browser, what it can do, how fast its connection is, and signs of automation.
// Nothing else is read.

const watches = new WeakMap();

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let watch = watches.get(parentElement);
  if (!watch) {
    watch = { last: "", listeners: new AbortController(), timer: 0 };
    watches.set(parentElement, watch);
    window.addEventListener(
      "resize",
      () => {
        clearTimeout(watch.timer);
        watch.timer = setTimeout(watch.look, 300);
      },
      { signal: watch.listeners.signal },
    );
  }
  watch.look = async () => {
    if (!watch.speed || data.again !== watch.again) watch.speed = await measureSpeed(data.root);
    if (watch.listeners.signal.aborted) return;
    const seen = { ...look(), megabits: watch.speed };
    const text = JSON.stringify(seen);
    if (text !== watch.last || data.again !== watch.again) {
      watch.last = text;
      watch.again = data.again;
      setTriggerValue("checked", seen);
    }
  };
  watch.look();
  return () => {
    watch.listeners.abort();
    clearTimeout(watch.timer);
    watches.delete(parentElement);
  };
}

function look() {
  return {
    width: window.innerWidth,
    height: window.innerHeight,
    browser: family(navigator.userAgent),
    capable: capable(),
    evidence: automation(),
  };
}

// Speed of the connection in Mbit/s, from how fast some bytes arrive: the better of two tries, the second one only
// where the first was slow. Null where nothing can be said.
async function measureSpeed(root) {
  let best = 0;
  for (let attempt = 0; attempt < 2 && best < 10; attempt++) {
    try {
      const response = await fetch(`${root}api/probe`, { cache: "no-store" });
      if (!response.ok) break;
      const begun = performance.now();
      const body = await response.arrayBuffer();
      const seconds = Math.max(performance.now() - begun, 1) / 1000;
      best = Math.max(best, (8 * body.byteLength) / 1e6 / seconds);
    } catch {
      break;
    }
  }
  if (!best) return null;
  best = Math.min(Math.round(best * 100) / 100, 1000);
  try {
    sessionStorage.setItem("vimi-speed", String(Math.round((best * 1e6) / 8)));
  } catch {
    // A browser without storage measures with its first pictures.
  }
  return best;
}

function family(agent) {
  if (/Edg\//.test(agent)) return "edge";
  if (/Firefox\//.test(agent)) return "firefox";
  if (/Chrom(e|ium)\//.test(agent)) return "chrome";
  if (/Safari\//.test(agent)) return "safari";
  return "other";
}

function capable() {
  return (
    typeof Image.prototype.decode === "function" &&
    typeof AbortController === "function" &&
    typeof navigator.sendBeacon === "function" &&
    "replaceChildren" in Element.prototype &&
    document.createElement("canvas").toDataURL("image/webp") !== ""
  );
}

function automation() {
  const signs = [];
  if (navigator.webdriver) signs.push("webdriver");
  if (/Headless/.test(navigator.userAgent)) signs.push("headless");
  if (!navigator.languages || navigator.languages.length === 0) signs.push("no languages");
  if (window.outerWidth === 0 || window.outerHeight === 0) signs.push("no window");
  return signs;
}
