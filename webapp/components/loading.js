// What has been loaded of the page so far, until Streamlit takes the place of this text.
(() => {
  const said = document.querySelector(".vimi-loading span");
  if (!said || typeof PerformanceObserver !== "function") return;
  let loaded = 0;
  new PerformanceObserver((list, observer) => {
    if (!said.isConnected) return observer.disconnect();
    for (const entry of list.getEntries()) loaded += entry.encodedBodySize || 0;
    said.textContent = `${Math.round(Math.min(loaded, WEIGHT) / 1000)} / ${Math.round(WEIGHT / 1000)} kB`;
  }).observe({ type: "resource", buffered: true });
})();
