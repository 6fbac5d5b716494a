// Search, sort and enlarge. Pages say everything without it.
(() => {
  "use strict";
  const find = (selector, inside = document) => Array.from(inside.querySelectorAll(selector));

  // ------------------------------------------------------------ search and sort
  const list = document.querySelector("[data-units]");
  const tools = document.querySelector(".tools");
  if (list && tools) {
    tools.hidden = false;
    const units = find("[data-unit]", list);
    const headings = find("[data-heading]", list);
    const search = tools.querySelector("[name=search]");
    const layer = tools.querySelector("[name=layer]");
    const sort = tools.querySelector("[name=sort]");
    const count = tools.querySelector("output");
    const inOrder = Array.from(list.children);
    const value = (unit, key) => {
      const text = unit.getAttribute("data-" + key);
      return text === null || text === "" ? NaN : Number(text);
    };
    const arrange = () => {
      const [key, direction] = sort.value.split(" ");
      if (key === "layer") {
        inOrder.forEach((child) => list.append(child));
      } else {
        const sign = direction === "down" ? -1 : 1;
        const known = units.filter((unit) => !Number.isNaN(value(unit, key)));
        known.sort((one, other) => sign * (value(one, key) - value(other, key)));
        [...known, ...units.filter((unit) => Number.isNaN(value(unit, key)))].forEach((unit) => list.append(unit));
      }
      show();
    };
    const show = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const seen = new Set();
      units.forEach((unit) => {
        const text = unit.dataset.unit.toLowerCase();
        const wanted = (!layer.value || unit.dataset.layer === layer.value) && words.every((word) => text.includes(word));
        unit.hidden = !wanted;
        if (wanted) seen.add(unit.dataset.layer);
      });
      const byLayer = sort.value === "layer";
      list.classList.toggle("sorted", !byLayer);
      headings.forEach((heading) => { heading.hidden = !byLayer || !seen.has(heading.dataset.heading); });
      const shown = units.filter((unit) => !unit.hidden).length;
      count.textContent = shown === units.length ? `${shown} units` : `${shown} of ${units.length} units`;
    };
    search.addEventListener("input", show);
    layer.addEventListener("change", show);
    sort.addEventListener("change", arrange);
    // A link to a unit shows it, whatever was searched for.
    addEventListener("hashchange", () => {
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target && target.hidden) { search.value = ""; layer.value = ""; show(); target.scrollIntoView(); }
    });
    arrange();
    if (location.hash) {
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target) target.scrollIntoView();
    }
  }

  // ------------------------------------------------------------ enlarge
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "enlarged picture");
  const large = document.createElement("img");
  const words = document.createElement("p");
  const bar = document.createElement("div");
  const button = (label, text, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };
  let around = [];
  let place = 0;
  let opener = null;
  const draw = () => {
    const picture = around[place];
    large.src = picture.src;
    large.alt = picture.alt;
    words.textContent = [picture.alt, around.length > 1 ? `${place + 1} of ${around.length}` : ""].filter(Boolean).join(" · ");
  };
  const move = (by) => { place = (place + by + around.length) % around.length; draw(); };
  bar.append(
    button("previous picture", "‹", () => move(-1)), words, button("next picture", "›", () => move(1)),
    button("close", "×", () => dialog.close()),
  );
  dialog.append(large, bar);
  document.body.append(dialog);
  const open = (picture) => {
    around = find("img", picture.closest("[data-set]") || picture.parentElement);
    place = around.indexOf(picture);
    opener = picture;
    draw();
    dialog.showModal();
  };
  find("main [data-set] img").forEach((picture) => {
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
  });
  const enlargeable = (target) => target instanceof Element && target.matches("main [data-set] img");
  document.addEventListener("click", (event) => {
    if (enlargeable(event.target)) open(event.target);
    else if (event.target === dialog) dialog.close();
  });
  document.addEventListener("keydown", (event) => {
    if (dialog.open && event.key === "ArrowLeft") move(-1);
    else if (dialog.open && event.key === "ArrowRight") move(1);
    else if (!dialog.open && (event.key === "Enter" || event.key === " ") && enlargeable(event.target)) {
      event.preventDefault();
      open(event.target);
    }
  });
  dialog.addEventListener("close", () => { if (opener) opener.focus({ preventScroll: true }); });
})();
