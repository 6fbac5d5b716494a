(() => {
  const form = document.getElementById("filters");
  const status = document.getElementById("shown");
  const selects = [...form.querySelectorAll("select")];
  form.hidden = false;

  const apply = () => {
    const wanted = Object.fromEntries(selects.map((select) => [select.name, select.value]));
    const fits = (name, value) => !wanted[name] || wanted[name] === value;
    let rows = 0;
    for (const table of document.querySelectorAll("section.table")) {
      const here = fits("protocol", table.dataset.protocol) && fits("condition", table.dataset.condition);
      let inTable = 0;
      for (const by of table.querySelectorAll(".by")) {
        let shown = 0;
        for (const row of by.querySelectorAll("tr[data-family]")) {
          row.hidden = !(here && fits("observer", by.dataset.observer) && fits("family", row.dataset.family));
          shown += !row.hidden;
        }
        by.hidden = !shown;
        inTable += shown;
      }
      table.hidden = !inTable;
      rows += inTable;
    }
    for (const group of document.querySelectorAll("section.group")) {
      const tables = [...group.querySelectorAll("section.table")];
      if (tables.length) group.hidden = tables.every((table) => table.hidden);
    }
    const banner = document.getElementById("plumbing-checks");
    if (banner) banner.hidden = [...document.querySelectorAll("section.group.apart")].every((group) => group.hidden);
    const filtered = selects.some((select) => select.value);
    status.textContent = filtered ? `${rows} ${rows === 1 ? "row" : "rows"} shown. Ranks are those among all.` : "";
  };

  const read = () => {
    if (location.hash && !location.hash.includes("=")) return;
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const select of selects) {
      const value = wanted.get(select.name) || "";
      select.value = [...select.options].some((option) => option.value === value) ? value : "";
    }
    apply();
  };

  form.addEventListener("change", () => {
    const chosen = new URLSearchParams(selects.filter((select) => select.value).map((s) => [s.name, s.value]));
    history.replaceState(null, "", `#${chosen}`);
    apply();
  });
  window.addEventListener("hashchange", read);
  read();

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  const hide = () => { tip.style.display = "none"; };
  for (const mark of document.querySelectorAll("a.said[title]")) {
    const words = mark.title;
    mark.removeAttribute("title");
    mark.setAttribute("aria-description", words);
    const show = () => {
      tip.textContent = words;
      tip.style.display = "block";
      const box = mark.getBoundingClientRect();
      tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
      const below = box.bottom + 6;
      tip.style.top = `${below + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : below}px`;
    };
    mark.addEventListener("mouseenter", show);
    mark.addEventListener("focus", show);
    mark.addEventListener("mouseleave", hide);
    mark.addEventListener("blur", hide);
  }
  window.addEventListener("scroll", hide, true);
  window.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
