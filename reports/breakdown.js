// What a stretch of a run cost, by meter, by phase and by step: sums of the plotted series over the meters in the total.

const NONE = "—";
const digits = (value, size = Math.abs(value)) => value.toFixed(size ? Math.min(9, Math.max(0, 2 - Math.floor(Math.log10(size)))) : 0);
const quantity = (value, unit) => {
  const size = Math.abs(Number(value.toPrecision(3)));
  const scales = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"]];
  const [scale, prefix] = size ? scales.find(([least]) => size >= least) || scales[4] : [1, ""];
  return `${digits(Number((value / scale).toPrecision(3)))} ${prefix}${unit}`;
};
const lasting = (seconds) => {
  if (seconds < 59.95) return seconds < 0.1 ? quantity(seconds, "s") : `${digits(seconds)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60), two = (n) => String(n).padStart(2, "0");
  if (minutes < 60) return `${minutes} min ${two(Math.round(seconds) % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
};
// A time, to a few thousandths of the run.
const plain = (seconds, end) => Number(seconds.toFixed(Math.max(0, 3 - Math.floor(Math.log10(end)))));

// Differences of 16 bits, deflated, in base64 -> watts, and joules up to the end of each bin.
const decoded = async (packed) => {
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const view = new DataView(await new Response(stream).arrayBuffer());
  const watts = new Float64Array(packed.n);
  const joules = new Float64Array(packed.n + 1), lost = new Float64Array(packed.n + 1);
  for (let i = 0, value = 0; i < packed.n; i++) {
    value = ((value + view.getInt16(2 * i, true)) << 16) >> 16;
    watts[i] = value === -32768 ? NaN : value * packed.quantum_w;
    joules[i + 1] = joules[i] + (watts[i] || 0) * packed.bin_s;
    lost[i + 1] = lost[i] + (value === -32768 ? packed.bin_s : 0);
  }
  const { channel: name, in_total: counted, bin_s: bin, begin_s: begin, look } = packed;
  return { name, counted, bin, begin, look, watts, joules, lost };
};
const upTo = (one, seconds, sums = one.joules) => {
  const at = Math.min(Math.max((seconds - one.begin) / one.bin, 0), one.watts.length);
  const whole = Math.min(Math.floor(at), one.watts.length - 1);
  return sums[whole] + (at - whole) * (sums[whole + 1] - sums[whole]);
};
const between = (one, a, b, sums) => upTo(one, b, sums) - upTo(one, a, sums);

// Rows (region, begin, end, level), each phase followed by those inside it -> a tree whose root is the whole run.
const tree = (rows, end) => {
  const path = [{ region: "", calls: [[0, end]], inside: [] }];
  for (const [region, begin, until, level] of rows) {
    if (path[level + 1]?.region !== region) {
      path.length = level + 1;
      path[level].inside.push(path[level + 1] = { region, name: region.split("/").pop(), calls: [], inside: [] });
    }
    path[level + 1].calls.push([Math.max(0, begin), Math.min(end, until)]);
  }
  return path[0];
};
const opened = async (drawn) => {
  const series = await Promise.all(drawn.series.map(decoded));
  const counted = series.filter((one) => one.counted);
  const end = Math.max(...series.map((one) => one.begin + one.bin * one.watts.length));
  const { count, energy, timed } = drawn.steps || {};
  return {
    series, counted, end, phases: drawn.phases, level: drawn.band_level, whole: tree(drawn.phases, end), bin: Math.max(0, ...counted.map((one) => one.bin)),
    steps: count && await decoded(count), stepping: energy && await decoded(energy), timed,
  };
};

// Seconds, joules and pieces of calls between a and b, without those of the phases inside them where that is asked.
const amount = (run, calls, a, b, less = []) => {
  const found = { seconds: 0, joules: 0, pieces: 0 };
  for (const [begin, end] of calls) {
    const [from, to] = [Math.max(begin, a), Math.min(end, b)];
    if (to <= from) continue;
    found.pieces += 1;
    found.seconds += to - from;
    for (const one of run.counted) found.joules += between(one, from, to);
  }
  for (const part of less) {
    const { seconds, joules, pieces } = amount(run, part.calls, a, b);
    found.seconds -= seconds; found.joules -= joules; found.pieces += pieces;
  }
  return found;
};
const lines = (run, node, level = 0) => {
  const found = node.inside.flatMap((part) => [
    { name: part.name, level, calls: part.calls, less: [], mark: true }, ...lines(run, part, level + 1),
  ]);
  const rest = { name: level ? `rest of ${node.name}` : "outside phases", level, calls: node.calls, less: node.inside };
  const much = node.inside.length && amount(run, rest.calls, 0, run.end, rest.less).seconds > 0.001 * run.end;
  return much ? [...found, rest] : found;
};

// A table that is built once and filled often, so that a button in it keeps the focus.
const tabled = (id, head, rows) => {
  const caption = make("caption"), body = make("tbody");
  const filled = rows.map(({ label, level = 0 }) => {
    const row = make("tr");
    row.append(make("th", { scope: "row", class: `d${Math.min(level, 4)}` }, ...label));
    for (let i = 1; i < head.length; i++) row.append(make("td", { class: "n" }));
    body.append(row);
    return row;
  });
  const names = head.map((name, i) => make("th", { scope: "col", ...(i ? { class: "n" } : {}) }, name));
  const table = make("table", { id }, caption, make("thead", {}, make("tr", {}, ...names)), body);
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region" }, table);
  const fill = (words, texts, marked) => {
    caption.textContent = words;
    scroll.setAttribute("aria-label", words);
    table.className = marked ? "plotted" : "";
    texts.forEach((cells, i) => {
      filled[i].classList.toggle("out", cells.every((text) => text === NONE));
      cells.forEach((text, j) => { filled[i].cells[j + 1].textContent = text; });
    });
  };
  return { scroll, fill };
};

// The breakdown of one run: `fill(marks)` writes it, `mark(begin, end)` is called where a phase is chosen.
const breakdown = (run, mark) => {
  const says = make("p", { id: "brush-says", role: "status" }), note = make("p", { class: "note" });
  const meters = run.counted.map((one) => ({ label: [one.name] }));
  if (meters.length > 1) meters.push({ label: ["together"] });
  const byMeter = tabled("brush-table", ["meter", "energy", "power", "share"], meters);
  const parts = run.counted.length ? lines(run, run.whole) : [];
  let marks = null;
  for (const part of parts) {
    if (!part.mark) { part.label = [part.name]; continue; }
    const many = part.calls.length, which = () => part.calls.findIndex((call) => marks && call[0] === marks[0] && call[1] === marks[1]);
    const button = make("button", { type: "button" }, part.name), count = make("span");
    button.addEventListener("click", () => mark(...(part.calls[which() + 1] || [0, 0])));
    part.label = many > 1 ? [button, " ", count] : [button];
    part.tell = () => {
      const now = which();
      count.textContent = now < 0 ? `×${many}` : `${now + 1} of ${many}`;
      button.setAttribute("aria-pressed", now >= 0);
      button.setAttribute("aria-label", `Mark ${part.name}${many > 1 ? `, ${now < 0 ? many : `${now + 1} of ${many}`} calls` : ""}`);
    };
  }
  const byPhase = tabled("brush-phases", ["phase", "time", "energy", "power", "share"], parts);
  const sides = make("div", { class: "sides" }, byMeter.scroll, ...(parts.length ? [byPhase.scroll] : []));
  const fill = (chosen) => {
    marks = chosen;
    const [a, b] = marks || [0, run.end], stretch = b - a || 1;
    const what = marks ? `Energy between the marks, ${plain(a, run.end)} to ${plain(b, run.end)} s` : "Energy of the whole run";
    const found = run.counted.map((one) => between(one, a, b));
    const sum = found.reduce((all, joules) => all + joules, 0);
    const lost = run.counted.some((one) => between(one, a, b, one.lost) > 0.005 * stretch);
    const share = (joules) => (sum ? `${((100 * joules) / sum).toFixed(1)} %` : NONE);
    const cells = (joules, seconds) => [quantity(joules, "J"), quantity(joules / seconds, "W"), share(joules)];
    const rows = found.map((joules) => cells(joules, stretch));
    byMeter.fill(`${what}, by meter (sums of the plotted series, without interval)`, found.length > 1 ? [...rows, cells(sum, stretch)] : rows, marks);
    let short = false;
    byPhase.fill(`${what}, by phase (sums of the plotted series, without interval); indented: parts of the phase above`, parts.map((part) => {
      const { seconds, joules, pieces } = amount(run, part.calls, a, b, part.less);
      if (seconds < 1e-6) return [NONE, NONE, NONE, NONE];
      if (seconds >= pieces * run.bin) return [lasting(seconds), ...cells(joules, seconds)];
      short = true;
      return [lasting(seconds), NONE, NONE, NONE];
    }), marks);
    parts.forEach((part) => part.tell?.());
    const told = [`${quantity(sum, "J")} in ${lasting(b - a)}, ${quantity(sum / stretch, "W")} on average`];
    const steps = run.steps ? between(run.steps, a, b) : null;
    if (steps !== null && steps < 0.05) told.push("no steps");
    else if (steps !== null) {
      const each = run.stepping ? `, ${quantity(between(run.stepping, a, b) / steps, "J")} each` : "";
      told.push(`${steps < 99.95 && marks ? steps.toFixed(1) : Math.round(steps).toLocaleString("en")} steps${each}`);
    }
    says.textContent = `${marks ? `${plain(a, run.end)} to ${plain(b, run.end)} s` : "Whole run"}: ${told.join("; ")}.`;
    note.textContent = [
      lost ? "Some of this stretch has no readings, and is not in the sums." : "",
      short ? "A phase that is shorter here than what is plotted has no joules." : "",
      run.timed ? `Without the ${run.timed} steps whose layers were timed.` : "",
      steps !== null && !run.stepping ? "Steps are shorter than what is plotted, and have no joules here." : "",
    ].filter(Boolean).join(" ");
  };
  return { node: make("div", { class: "brushed" }, says, sides, note), fill };
};
