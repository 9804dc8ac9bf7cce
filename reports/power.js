// Power over time on a canvas: a cursor, marks, zoom, by pointer and by keys.

const COLOURS = ["--blue", "#ee7733", "#009988", "#ee3377", "#33bbee", "--red"]; // as style.py has them; two by theme
const DASHES = [[], [6, 2], [2, 1.5], [7, 2, 2, 2], [4, 4], [10, 2.5]];
const LEFT = 56, BOTTOM = 26, TOP = 26, RIGHT = 8;

const ticks = (low, high, most) => {
  const rough = (high - low) / most, ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * ten).find((s) => s >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-9); n++) found.push(Number((n * step).toPrecision(12)));
  return found;
};
const short = (value, unit) => quantity(value, unit).replace(/\.0+ /, " ");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const powerPlot = (section, runs) => {
  const bar = make("div", { class: "look", role: "group", "aria-label": "What the plot shows" });
  const canvas = make("canvas", {
    id: "power-plot", tabindex: "0", role: "application", "aria-label": "Power over time, a plot to look into", "aria-describedby": "power-keys",
  });
  const says = make("p", { id: "power-says", role: "status" });
  const keys = make("p", { id: "power-keys", class: "note keys" },
    "Keys on the plot: ← → move, with Shift they mark, + − zoom, Home shows the whole run, Escape clears the marks.");
  const chooser = make("select", {}, ...runs.map((one, i) => make("option", { value: i }, `${one.run.name} ${one.run.run_id.slice(0, 13)}`)));
  const field = (label, control) => { bar.append(make("label", {}, label, control)); return control; };
  if (runs.length > 1) field("Look into", chooser);
  const from = field("From, s", make("input", { type: "number", step: "any", min: "0" }));
  const to = field("To, s", make("input", { type: "number", step: "any", min: "0" }));
  const press = (text, act) => { const made = make("button", { type: "button" }, text); made.addEventListener("click", act); bar.append(made); };
  const below = make("div");
  const figure = section.querySelector("figure"), parts = [bar, canvas, says, keys, below];
  if (!figure) section.append(...parts);
  else if (runs.length === 1) { figure.hidden = true; figure.before(...parts); } else figure.after(...parts);

  let run = null, top = 1, view = [0, 1], marks = null, cursor = null, anchor = null, parted = null;
  const width = () => canvas.clientWidth - LEFT - RIGHT;
  const toX = (seconds) => LEFT + ((seconds - view[0]) / (view[1] - view[0])) * width();
  const toS = (x) => Math.min(Math.max(view[0] + ((x - LEFT) / width()) * (view[1] - view[0]), 0), run.end);
  const held = (x) => Math.min(Math.max(x, LEFT), LEFT + width());

  const dress = (pen, one) => {
    const look = one.look % COLOURS.length;
    pen.strokeStyle = COLOURS[look].startsWith("--") ? colour(COLOURS[look]) : COLOURS[look]; pen.setLineDash(DASHES[look]); pen.lineWidth = 1.4;
  };
  const line = (pen, one, height) => {
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
  const legend = (pen, ink) => {
    let x = LEFT;
    pen.fillStyle = ink; pen.textAlign = "left"; pen.textBaseline = "middle";
    for (const one of run.series) {
      const wide = 30 + pen.measureText(one.name).width;
      if (x + wide > LEFT + width()) break;
      dress(pen, one);
      pen.beginPath(); pen.moveTo(x, 9); pen.lineTo(x + 24, 9); pen.stroke();
      pen.fillText(one.name, x + 30, 9);
      x += wide + 18;
    }
    pen.setLineDash([]);
  };
  const bands = (pen, height, soft) => {
    const outer = run.phases.filter(([, , , level]) => level === run.level).sort((p, q) => p[1] - q[1]);
    outer.forEach(([region, begin, until], i) => {
      const [a, b] = [held(toX(begin)), held(toX(until))], name = region.split("/").pop();
      pen.globalAlpha = i % 2 ? 0.2 : 0.09; pen.fillStyle = "#8a8f98";
      pen.fillRect(a, TOP, b - a, height);
      pen.globalAlpha = 1; pen.fillStyle = soft; pen.textAlign = "center"; pen.textBaseline = "top";
      if (pen.measureText(name).width < b - a - 8) pen.fillText(name, (a + b) / 2, TOP + 3);
    });
  };
  const draw = () => {
    const ratio = devicePixelRatio || 1, pen = canvas.getContext("2d"), height = canvas.clientHeight - TOP - BOTTOM;
    if (!run || canvas.clientWidth < LEFT + RIGHT + 10 || height < 10) return;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    pen.scale(ratio, ratio);
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    bands(pen, height, colour("--soft"));
    if (marks) {
      const [a, b] = marks.map((s) => held(toX(s)));
      pen.globalAlpha = 0.16; pen.fillStyle = colour("--accent");
      pen.fillRect(a, TOP, Math.max(1, b - a), height);
      pen.globalAlpha = 1;
    }
    pen.strokeStyle = colour("--line"); pen.fillStyle = colour("--soft"); pen.lineWidth = 1;
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const watts of ticks(0, top, 5)) {
      const y = TOP + height * (1 - watts / top);
      pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(LEFT + width(), y); pen.stroke();
      pen.fillText(short(watts, "W"), LEFT - 6, y);
    }
    pen.textAlign = "center"; pen.textBaseline = "top";
    for (const seconds of ticks(view[0], view[1], Math.max(2, width() / 90))) {
      if (toX(seconds) < LEFT - 1 || toX(seconds) > LEFT + width() - 12) continue;
      pen.fillText(`${seconds} s`, toX(seconds), TOP + height + 7);
    }
    pen.save(); pen.beginPath(); pen.rect(LEFT, 0, width(), TOP + height); pen.clip();
    run.series.forEach((one) => { dress(pen, one); line(pen, one, height); });
    pen.setLineDash([]); pen.strokeStyle = colour("--ink"); pen.lineWidth = 1;
    if (cursor !== null) { pen.beginPath(); pen.moveTo(toX(cursor), TOP); pen.lineTo(toX(cursor), TOP + height); pen.stroke(); }
    pen.restore();
    legend(pen, colour("--ink"));
  };

  const tell = () => {
    const watts = (one) => one.watts[Math.min(one.watts.length - 1, Math.floor((cursor - one.begin) / one.bin))];
    const told = cursor === null ? [] : run.series.map((one) => `${one.name} ${watts(one) >= 0 ? quantity(watts(one), "W") : NONE}`);
    says.textContent = told.length ? `${plain(cursor, run.end)} s: ${told.join(", ")}` : `Drag over the plot to mark a stretch${run.phases.length ? ", or choose a phase below" : ""}.`;
  };
  const mark = (a, b) => {
    marks = a === b ? null : [Math.max(0, Math.min(a, b)), Math.min(run.end, Math.max(a, b))];
    parted.fill(marks);
    [from.value, to.value] = marks ? marks.map((s) => Number(s.toPrecision(6))) : ["", ""];
    draw();
  };
  const moved = (begin, span) => { const at = Math.min(Math.max(0, begin), run.end - span); view = [at, at + span]; draw(); };
  const zoom = (factor) => {
    const middle = cursor !== null && cursor >= view[0] && cursor <= view[1] ? cursor : (view[0] + view[1]) / 2;
    const span = Math.min(run.end, Math.max(run.end / 20000, (view[1] - view[0]) * factor));
    moved(middle - ((middle - view[0]) / (view[1] - view[0])) * span, span);
  };
  const whole = () => moved(0, run.end);
  press("Zoom to the marks", () => { if (marks) moved(marks[0], marks[1] - marks[0]); });
  press("Zoom in", () => zoom(0.5));
  press("Zoom out", () => zoom(2));
  press("Whole run", () => { mark(0, 0); whole(); });
  for (const input of [from, to]) {
    input.addEventListener("change", () => {
      const [a, b] = [from.value === "" ? 0 : Number(from.value), to.value === "" ? run.end : Number(to.value)];
      if (Number.isFinite(a) && Number.isFinite(b) && b > a) mark(a, b);
    });
  }

  const place = (event) => toS(event.clientX - canvas.getBoundingClientRect().left);
  canvas.addEventListener("pointerdown", (event) => { anchor = place(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    cursor = place(event); tell();
    if (anchor !== null && Math.abs(toX(cursor) - toX(anchor)) > 3) mark(anchor, cursor); else draw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { anchor = null; });
  canvas.addEventListener("dblclick", whole);
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8); }
  }, { passive: false });
  const step = (sign, marking) => {
    const before = cursor === null ? (view[0] + view[1]) / 2 : cursor, span = view[1] - view[0];
    cursor = Math.min(run.end, Math.max(0, before + (sign * span) / 100));
    if (cursor < view[0] || cursor > view[1]) moved(cursor - span / 2, span);
    if (marking) { if (anchor === null) anchor = before; mark(anchor, cursor); } else { anchor = null; draw(); }
    tell();
  };
  canvas.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => step(-1, event.shiftKey), ArrowRight: () => step(1, event.shiftKey), "+": () => zoom(0.5), "=": () => zoom(0.5),
      "-": () => zoom(2), Home: whole, Escape: () => { anchor = null; mark(0, 0); },
    }[event.key];
    if (act) { act(); event.preventDefault(); }
  });
  canvas.addEventListener("keyup", (event) => { if (event.key === "Shift") anchor = null; });

  const show = async (index) => {
    const found = await opened(runs[index]);
    if (Number(chooser.value) !== index) return; // another was chosen meanwhile
    run = found;
    top = 1.15 * Math.max(1, ...run.series.map((one) => one.watts.reduce((most, w) => (w > most ? w : most), 0)));
    parted = breakdown(run, mark);
    below.replaceChildren(parted.node);
    view = [0, run.end]; cursor = null; anchor = null;
    tell(); mark(0, 0);
  };
  chooser.addEventListener("change", () => show(Number(chooser.value)));
  themed.push(draw);
  new ResizeObserver(draw).observe(canvas);
  show(0);
};

// Once the page has been painted.
const power = document.querySelector('[data-kind="power"]');
if (power && typeof DecompressionStream !== "undefined") {
  requestAnimationFrame(() => setTimeout(() => {
    const runs = JSON.parse(byId("energyprof-data").textContent).drawn.filter((one) => one.series.length);
    if (runs.length) powerPlot(power, runs);
  }));
}
