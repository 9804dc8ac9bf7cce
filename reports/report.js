"use strict";
// Enhances a page that is whole without it: theme, sorting, and a power plot to look into.
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, text = "") => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };

  // The theme: the system's, or the one that was chosen, remembered where the browser lets us.
  const THEMES = ["system", "dark", "light"];
  const changed = [];
  const setTheme = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    byId("theme").textContent = `Theme: ${name}`;
    changed.forEach((redraw) => redraw());
  };
  let theme = "system";
  try { theme = localStorage.getItem("energyprof-theme") || theme; } catch { /* not in a file, then */ }
  if (!THEMES.includes(theme)) theme = "system";
  setTheme(theme);
  byId("theme").hidden = false;
  byId("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem("energyprof-theme", theme); } catch { /* not remembered, then */ }
    setTheme(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed.forEach((redraw) => redraw()));

  // Sorting: rows without a figure last; the baseline's rows stay on top.
  const compared = (a, b, index, sign) => {
    const [x, y] = [a.cells[index], b.cells[index]];
    const [p, q] = [x.dataset.v, y.dataset.v];
    if (p !== undefined && q !== undefined) return sign * (p - q);
    if (p !== undefined || q !== undefined) return p !== undefined ? -1 : 1;
    return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const button = make("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const fixed = rows.filter((row) => row.dataset.fixed !== undefined);
        const others = rows.filter((row) => row.dataset.fixed === undefined);
        const order = (a, b) => compared(a, b, index, down ? 1 : -1);
        body.append(...fixed.sort(order), ...others.sort(order));
      });
    });
  }

  // Power over time, once the page has been painted.
  const section = document.querySelector('[data-kind="power"]');
  if (!section || typeof DecompressionStream === "undefined") return;
  const power = () => {
    const runs = JSON.parse(byId("energyprof-data").textContent).drawn.filter((one) => one.series.length);
    if (!runs.length) return;
    const COLOURS = ["#0077bb", "#ee7733", "#009988", "#ee3377", "#33bbee", "#cc3311"];
    const DASHES = [[], [6, 2], [2, 1.5], [7, 2, 2, 2], [4, 4], [10, 2.5]];

    const number = (value, unit) => {
      const size = Math.abs(value);
      const [scale, prefix] = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"]].find(([s]) => size >= s) || [1, ""];
      return `${Number((value / scale).toPrecision(3))} ${prefix}${unit}`;
    };
    // Differences of 16 bits, deflated, in base64 -> watts, and joules up to the end of each bin.
    const decoded = async (packed) => {
      const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      const view = new DataView(await new Response(stream).arrayBuffer());
      const watts = new Float64Array(packed.n);
      const joules = new Float64Array(packed.n + 1);
      for (let i = 0, value = 0; i < packed.n; i++) {
        value = ((value + view.getInt16(2 * i, true)) << 16) >> 16;
        watts[i] = value === -32768 ? NaN : value * packed.quantum_w;
        joules[i + 1] = joules[i] + (watts[i] || 0) * packed.bin_s;
      }
      return { name: packed.channel, look: packed.look % COLOURS.length, counted: packed.in_total, bin: packed.bin_s, begin: packed.begin_s, watts, joules };
    };
    const upTo = (one, seconds) => {
      const at = Math.min(Math.max((seconds - one.begin) / one.bin, 0), one.watts.length);
      const whole = Math.min(Math.floor(at), one.watts.length - 1);
      return one.joules[whole] + (at - whole) * (one.joules[whole + 1] - one.joules[whole]);
    };

    const bar = make("div", { class: "look", role: "group", "aria-label": "What the plot shows" });
    const canvas = make("canvas", {
      id: "power-plot", tabindex: "0", role: "application", "aria-label": "Power over time, a plot to look into",
      "aria-describedby": "power-keys",
    });
    const says = make("p", { id: "power-says", role: "status" });
    const keys = make("p", { id: "power-keys", class: "note keys" },
      "Drag to mark a stretch. Keys: ← → move, with Shift they mark, + − zoom, Home shows the whole run, Escape clears the marks.");
    const chooser = make("select");
    runs.forEach((one, i) => chooser.append(make("option", { value: i }, `${one.run.name} ${one.run.run_id.slice(0, 13)}`)));
    const field = (label, control) => { const made = make("label", {}, label); made.append(control); bar.append(made); return control; };
    if (runs.length > 1) field("Look into", chooser);
    const from = field("From, s", make("input", { type: "number", step: "any", min: "0" }));
    const to = field("To, s", make("input", { type: "number", step: "any", min: "0" }));
    const press = (text, act) => { const made = make("button", { type: "button" }, text); made.addEventListener("click", act); bar.append(made); };
    const scroll = make("div", { class: "scroll" });
    const table = make("table", { id: "brush-table" });
    scroll.append(table);
    const figure = section.querySelector("figure");
    if (!figure) section.append(bar, canvas, says, keys, scroll);
    else if (runs.length === 1) { figure.hidden = true; figure.before(bar, canvas, says, keys, scroll); } else figure.after(bar, canvas, says, keys, scroll);

    let series = [], phases = [], end = 1, view = [0, 1], marks = null, cursor = null;
    const LEFT = 56, BOTTOM = 26, TOP = 26, RIGHT = 8;
    const width = () => canvas.clientWidth - LEFT - RIGHT;
    const toX = (seconds) => LEFT + ((seconds - view[0]) / (view[1] - view[0])) * width();
    const toS = (x) => Math.min(Math.max(view[0] + ((x - LEFT) / width()) * (view[1] - view[0]), 0), end);
    const ticks = (low, high, most) => {
      const rough = (high - low) / most, ten = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((m) => m * ten).find((s) => s >= rough);
      const found = [];
      for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-9); n++) found.push(Number((n * step).toPrecision(12)));
      return found;
    };
    const line = (pen, one, top, height) => {
      const y = (watts) => TOP + height * (1 - watts / top);
      pen.beginPath();
      let on = false;
      for (let x = 0; x < width(); x++) {
        const first = Math.max(0, Math.floor((toS(LEFT + x) - one.begin) / one.bin));
        const last = Math.min(one.watts.length - 1, Math.max(first, Math.ceil((toS(LEFT + x + 1) - one.begin) / one.bin) - 1));
        let low = Infinity, high = -Infinity;
        for (let i = first; i <= last; i++) { const w = one.watts[i]; if (w < low) low = w; if (w > high) high = w; }
        if (low === Infinity) { on = false; continue; }
        if (on) pen.lineTo(LEFT + x, y(low)); else pen.moveTo(LEFT + x, y(low));
        if (high > low) pen.lineTo(LEFT + x, y(high));
        on = true;
      }
      pen.stroke();
    };
    const dress = (pen, one) => { pen.strokeStyle = COLOURS[one.look]; pen.setLineDash(DASHES[one.look]); pen.lineWidth = 1.4; };
    const legend = (pen, ink) => {
      let x = LEFT;
      pen.fillStyle = ink; pen.textAlign = "left"; pen.textBaseline = "middle";
      for (const one of series) {
        const wide = 30 + pen.measureText(one.name).width;
        if (x + wide > LEFT + width()) break;
        dress(pen, one);
        pen.beginPath(); pen.moveTo(x, 9); pen.lineTo(x + 24, 9); pen.stroke();
        pen.fillText(one.name, x + 30, 9);
        x += wide + 18;
      }
      pen.setLineDash([]);
    };
    const draw = () => {
      const ratio = devicePixelRatio || 1, pen = canvas.getContext("2d");
      const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
      const height = canvas.clientHeight - TOP - BOTTOM;
      if (!series.length || canvas.clientWidth < LEFT + RIGHT + 10 || height < 10) return;
      canvas.width = canvas.clientWidth * ratio;
      canvas.height = canvas.clientHeight * ratio;
      pen.scale(ratio, ratio);
      pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
      const top = 1.15 * Math.max(1, ...series.map((one) => one.watts.reduce((m, w) => (w > m ? w : m), 0)));
      phases.forEach(([name, begin, until], i) => {
        const [a, b] = [begin, until].map((s) => Math.min(Math.max(toX(s), LEFT), LEFT + width()));
        pen.globalAlpha = i % 2 ? 0.2 : 0.09; pen.fillStyle = "#8a8f98";
        pen.fillRect(a, TOP, b - a, height);
        pen.globalAlpha = 1; pen.fillStyle = colour("--soft"); pen.textAlign = "center"; pen.textBaseline = "top";
        if (pen.measureText(name).width < b - a - 8) pen.fillText(name, (a + b) / 2, TOP + 3);
      });
      if (marks) {
        pen.globalAlpha = 0.16; pen.fillStyle = colour("--accent");
        const [a, b] = marks.map((s) => Math.min(Math.max(toX(s), LEFT), LEFT + width()));
        pen.fillRect(a, TOP, Math.max(1, b - a), height);
        pen.globalAlpha = 1;
      }
      pen.strokeStyle = colour("--line"); pen.fillStyle = colour("--soft"); pen.lineWidth = 1;
      pen.textAlign = "right"; pen.textBaseline = "middle";
      for (const watts of ticks(0, top, 5)) {
        const y = TOP + height * (1 - watts / top);
        pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(LEFT + width(), y); pen.stroke();
        pen.fillText(number(watts, "W"), LEFT - 6, y);
      }
      pen.textAlign = "center"; pen.textBaseline = "top";
      for (const seconds of ticks(view[0], view[1], Math.max(2, width() / 90))) {
        if (toX(seconds) < LEFT - 1 || toX(seconds) > LEFT + width() - 12) continue;
        pen.fillText(`${seconds} s`, toX(seconds), TOP + height + 7);
      }
      pen.save(); pen.beginPath(); pen.rect(LEFT, 0, width(), TOP + height); pen.clip();
      series.forEach((one) => { dress(pen, one); line(pen, one, top, height); });
      pen.setLineDash([]); pen.strokeStyle = colour("--ink"); pen.lineWidth = 1;
      if (cursor !== null) { pen.beginPath(); pen.moveTo(toX(cursor), TOP); pen.lineTo(toX(cursor), TOP + height); pen.stroke(); }
      pen.restore();
      legend(pen, colour("--ink"));
    };
    const tell = () => {
      if (cursor === null) { says.textContent = ""; return; }
      const watts = series.map((one) => `${one.name} ${number(one.watts[Math.min(one.watts.length - 1, Math.floor((cursor - one.begin) / one.bin))] || 0, "W")}`);
      says.textContent = `${Number(cursor.toPrecision(4))} s: ${watts.join(", ")}`;
    };
    const fill = () => {
      const [a, b] = marks || [0, end];
      const caption = marks ? `Energy between the marks, ${Number(a.toPrecision(4))} to ${Number(b.toPrecision(4))} s (sums of the plotted series)` : "Energy of the whole run (sums of the plotted series)";
      const head = make("tr"), body = make("tbody"), thead = make("thead");
      ["meter", "energy", "mean power", "share"].forEach((name, i) => head.append(make("th", { scope: "col", class: i ? "n" : "" }, name)));
      thead.append(head);
      const found = series.filter((one) => one.counted).map((one) => [one.name, upTo(one, b) - upTo(one, a)]);
      const sum = found.reduce((all, [, joules]) => all + joules, 0);
      for (const [name, joules] of [...found, ...(found.length > 1 ? [["together", sum]] : [])]) {
        const row = make("tr");
        row.append(make("th", { scope: "row" }, name));
        for (const text of [number(joules, "J"), number(joules / (b - a || 1), "W"), `${((100 * joules) / (sum || 1)).toFixed(1)} %`]) row.append(make("td", { class: "n" }, text));
        body.append(row);
      }
      table.className = marks ? "plotted" : "";
      table.replaceChildren(make("caption", {}, caption), thead, body);
      from.value = marks ? Number(a.toPrecision(6)) : "";
      to.value = marks ? Number(b.toPrecision(6)) : "";
    };
    const mark = (a, b) => { marks = a === b ? null : [Math.max(0, Math.min(a, b)), Math.min(end, Math.max(a, b))]; fill(); draw(); };
    const zoom = (factor) => {
      const middle = cursor !== null && cursor >= view[0] && cursor <= view[1] ? cursor : (view[0] + view[1]) / 2;
      const span = Math.min(end, Math.max(end / 20000, (view[1] - view[0]) * factor));
      const begin = Math.min(Math.max(0, middle - ((middle - view[0]) / (view[1] - view[0])) * span), end - span);
      view = [begin, begin + span];
      draw();
    };
    const whole = () => { view = [0, end]; draw(); };
    press("Zoom to the marks", () => { if (marks) { view = [...marks]; draw(); } });
    press("Zoom in", () => zoom(0.5));
    press("Zoom out", () => zoom(2));
    press("Whole run", () => { marks = null; fill(); whole(); });
    for (const input of [from, to]) {
      input.addEventListener("change", () => {
        const [a, b] = [from.value === "" ? 0 : Number(from.value), to.value === "" ? end : Number(to.value)];
        if (Number.isFinite(a) && Number.isFinite(b) && b > a) mark(a, b);
      });
    }
    let anchor = null;
    const place = (event) => toS(event.clientX - canvas.getBoundingClientRect().left);
    canvas.addEventListener("pointerdown", (event) => { anchor = place(event); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      cursor = place(event); tell();
      if (anchor !== null && Math.abs(toX(cursor) - toX(anchor)) > 3) mark(anchor, cursor); else draw();
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { anchor = null; });
    canvas.addEventListener("dblclick", whole);
    canvas.addEventListener("wheel", (event) => { if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8); } }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = (view[1] - view[0]) / 100;
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        const before = cursor === null ? (view[0] + view[1]) / 2 : cursor;
        cursor = Math.min(end, Math.max(0, before + (event.key === "ArrowLeft" ? -step : step)));
        if (cursor < view[0] || cursor > view[1]) { const shift = cursor - (view[0] + view[1]) / 2, span = view[1] - view[0]; const at = Math.min(Math.max(0, view[0] + shift), end - span); view = [at, at + span]; }
        if (event.shiftKey) { if (anchor === null) anchor = before; mark(anchor, cursor); } else { anchor = null; draw(); }
        tell();
      } else if (event.key === "+" || event.key === "=") zoom(0.5);
      else if (event.key === "-") zoom(2);
      else if (event.key === "Home") whole();
      else if (event.key === "Escape") { anchor = null; marks = null; fill(); draw(); }
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("keyup", (event) => { if (event.key === "Shift") anchor = null; });
    const show = async (index) => {
      series = await Promise.all(runs[index].series.map(decoded));
      phases = runs[index].phases;
      end = Math.max(...series.map((one) => one.begin + one.bin * one.watts.length));
      view = [0, end]; marks = null; cursor = null; anchor = null;
      tell(); fill(); draw();
    };
    chooser.addEventListener("change", () => show(Number(chooser.value)));
    changed.push(draw);
    new ResizeObserver(draw).observe(canvas);
    show(0);
  };
  requestAnimationFrame(() => setTimeout(power));
})();
