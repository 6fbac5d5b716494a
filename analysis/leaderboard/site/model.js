(() => {
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.dataset.key) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const value = (row) => {
          const text = row.cells[column].dataset.value;
          return text === undefined || text === "" ? null : Number(text);
        };
        const rows = [...table.tBodies[0].rows];
        rows.sort((one, other) => {
          const a = value(one), b = value(other);
          if (a === null || b === null) return (a === null) - (b === null);
          return falling ? b - a : a - b;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
