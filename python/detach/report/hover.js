// Over a map of windows: the nearest point is ringed in every panel, and its film strip shown.
document.querySelectorAll("script[data-figure]").forEach((held) => {
  const figure = document.getElementById(held.dataset.figure);
  if (!figure) return;
  const data = JSON.parse(held.textContent), svg = figure.querySelector("svg");
  const view = svg.viewBox.baseVal, near = 14, scale = Math.min(2.5, 320 / data.width);
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  const strip = tip.appendChild(document.createElement("div"));
  const words = tip.appendChild(document.createElement("span"));
  strip.style.width = data.width * scale + "px";
  strip.style.height = data.height * scale + "px";
  strip.style.backgroundImage = `url(${data.sheet})`;
  strip.style.backgroundSize = data.columns * data.width * scale + "px auto";
  const rings = data.panels.map(() => {
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    ring.setAttribute("class", "ring");
    ring.setAttribute("r", 7);
    ring.style.display = "none";
    return svg.appendChild(ring);
  });
  const hide = () => {
    tip.hidden = true;
    rings.forEach((ring) => { ring.style.display = "none"; });
  };
  const nearest = (x, y) => {
    let best = -1, least = near * near;
    data.panels.forEach((points) => points.forEach(([a, b], i) => {
      const apart = (a - x) ** 2 + (b - y) ** 2;
      if (apart < least) { least = apart; best = i; }
    }));
    return best;
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * view.width;
    const y = (event.clientY - box.top) / box.height * view.height;
    const i = nearest(x, y);
    if (i < 0) { hide(); return; }
    rings.forEach((ring, p) => {
      ring.setAttribute("cx", data.panels[p][i][0]);
      ring.setAttribute("cy", data.panels[p][i][1]);
      ring.style.display = "";
    });
    const column = i % data.columns, row = Math.floor(i / data.columns);
    strip.style.backgroundPosition =
      `${-column * data.width * scale}px ${-row * data.height * scale}px`;
    words.textContent = data.words[i];
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(event.clientX + 16, room)) + window.scrollX + "px";
    const below = event.clientY + tip.offsetHeight + 24 < window.innerHeight;
    const top = below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 16;
    tip.style.top = top + window.scrollY + "px";
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
});
