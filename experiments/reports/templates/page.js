// Charts: the value of the nearest point under the pointer.
for (const chart of document.querySelectorAll("svg.chart")) {
  const title = chart.querySelector("title");
  chart.setAttribute("aria-label", title.textContent);
  title.remove();  // otherwise browsers show it over the value
  const points = JSON.parse(chart.dataset.hover);
  if (!points.length) continue;
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 5);
  const tip = document.createElement("div");
  tip.className = "tip";
  const hide = () => { tip.remove(); ring.remove(); };
  chart.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    const distance = ([x, y]) => Math.hypot(2 * (x - at.x), y - at.y);
    const nearest = points.reduce((a, b) => distance(b) < distance(a) ? b : a);
    const [x, y, text] = nearest;
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    tip.textContent = text;
    chart.append(ring);
    chart.parentElement.append(tip);
    const scale = chart.clientWidth / chart.viewBox.baseVal.width;
    const left = Math.min(scale * x, chart.clientWidth - tip.offsetWidth);
    tip.style.left = `${Math.max(left, 0)}px`;
    tip.style.top = `${chart.offsetTop + scale * y - tip.offsetHeight - 10}px`;
  });
  chart.addEventListener("pointerleave", hide);
}

// Pictures by step: one at a time.
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input");
  const output = slider.querySelector("output");
  const slides = [...slider.querySelectorAll(".slide")];
  const show = () => {
    slides.forEach((slide, i) => slide.classList.toggle("shown", i === input.valueAsNumber));
    output.textContent = slides[input.valueAsNumber].querySelector("figcaption, p").textContent;
  };
  slider.classList.add("live");
  slider.querySelector(".control").hidden = false;
  input.addEventListener("input", show);
  show();
}

// Tables: a click on the head of a column sorts the rows, another one turns them round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent;
  };
  const sort = (column) => {
    const descends = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", descends ? "descending" : "ascending");
    const compare = (a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (typeof x === typeof y) return typeof x === "number" ? x - y : x.localeCompare(y);
      return typeof x === "number" ? -1 : 1;  // empty cells are last
    };
    const rows = [...body.rows].sort(compare);
    body.append(...(descends ? rows.reverse() : rows));
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(column));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(column); });
  });
}
