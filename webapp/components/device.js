// The device check: window, family of the browser, what it can do, and signs of automation. Nothing else is read.

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
  watch.look = () => {
    const seen = look();
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
