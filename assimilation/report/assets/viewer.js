// The field viewer. Data: one JSON block; every series is 8-bit codes of (frame, row, column), delta-coded along x
// modulo 256, deflated, base64. value = low + (high - low) * (code / 254)^gamma; 255 = missing. Row 0 is the lowest y.
(() => {
  const [frames, rows, columns] = data.shape;
  const MISSING = 255;
  const MEMBER = "member-";
  const state = { frame: 0, variable: 0, trajectory: 0, member: 0, at: null, kept: null };
  const decoded = new Map();
  const panels = [];
  let timer = 0;

  // Anchors of the colour maps: viridis, red-blue (ColorBrewer), magma reversed in part, and rain.
  const COLOURS = {
    plain: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
    signed: ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"],
    heat: ["000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf"],
    rain: ["ffffff", "dcebf7", "a6cee3", "5ba3cf", "2171b5", "0b4a94", "3f2a8c", "7a1fa2", "c2185b", "ff5252"],
  };
  const tables = Object.fromEntries(Object.entries(COLOURS).map(([name, anchors]) => [name, ramp(anchors)]));

  function ramp(anchors) {
    const table = new Uint8ClampedArray(256 * 4);
    const parts = anchors.map((hex) => [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16)));
    for (let code = 0; code < MISSING; code++) {
      const position = (code / 254) * (parts.length - 1);
      const below = Math.min(Math.floor(position), parts.length - 2);
      for (let c = 0; c < 3; c++) table[4 * code + c] = parts[below][c] + (position - below) * (parts[below + 1][c] - parts[below][c]);
      table[4 * code + 3] = 255;
    }
    table.set([139, 144, 152, 255], 4 * MISSING);
    return table;
  }

  async function decode(text) {
    const codes = await inflated(text);
    for (let start = 0; start < codes.length; start += columns) {
      for (let i = start + 1; i < start + columns; i++) codes[i] = (codes[i] + codes[i - 1]) & 255;
    }
    return codes;
  }

  // The codes of a panel now chosen; a member panel stands for the member chosen.
  const source = (panel) => (panel.key === "member" ? data.panels.find((one) => one.key === MEMBER + state.member) : panel.source);

  async function codesOf(one) {
    const series = state.trajectory * data.variables.length + state.variable;
    const name = `${one.key}/${series}`;
    if (!decoded.has(name)) decoded.set(name, await decode(one.codes[series]));
    return decoded.get(name);
  }

  function valueOf(code, range) {
    return code === MISSING ? NaN : range.low + (range.high - range.low) * (code / 254) ** range.gamma;
  }

  const short = (value) => (Number.isNaN(value) ? "missing" : Math.abs(value) >= 1e5 ? value.toExponential(2) : String(+value.toPrecision(3)));
  // Row 0 of a field is the lowest y; a strip has time downward.
  const line = (row) => (data.strip ? row : rows - 1 - row);

  function fill(bytes, codes, table, start) {
    for (let row = 0; row < rows; row++) {
      let out = 4 * line(row) * columns;
      for (let i = start + row * columns; i < start + (row + 1) * columns; i++, out += 4) {
        const from = 4 * codes[i];
        bytes[out] = table[from]; bytes[out + 1] = table[from + 1]; bytes[out + 2] = table[from + 2]; bytes[out + 3] = 255;
      }
    }
  }

  function paint(panel, codes, observed) {
    const range = source(panel).ranges[state.variable];
    const start = state.frame * rows * columns;
    const pen = panel.picture.paint((bytes) => fill(bytes, codes, tables[range.colours], start), byId("smooth").checked);
    const { canvas } = panel.picture;
    if (observed && panel.key === "mean" && byId("observed").checked && !byId("observed-label").hidden) mark(pen, canvas, observed, start);
    if (byId("coast").checked) coast(pen, canvas, range.colours === "heat" ? "rgba(255, 255, 255, 0.8)" : "rgba(0, 0, 0, 0.65)");
    if (state.at) cross(pen, canvas);
    const code = state.at ? codes[start + state.at.row * columns + state.at.column] : MISSING;
    panel.value.textContent = state.at ? short(valueOf(code, range)) : "";
  }

  function mark(pen, canvas, observed, start) {
    let count = 0;
    for (let i = start; i < start + rows * columns; i++) count += observed[i] !== MISSING;
    // Where most points are observed, dots would hide the field.
    if (count > 0.5 * rows * columns) return;
    const [wide, high] = [canvas.width / columns, canvas.height / rows];
    const size = Math.max(1, Math.min(wide, high, 5) * 0.4);
    pen.fillStyle = "rgba(0, 0, 0, 0.8)";
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        if (observed[start + row * columns + column] === MISSING) continue;
        pen.fillRect((column + 0.5) * wide - size / 2, (line(row) + 0.5) * high - size / 2, size, size);
      }
    }
  }

  // Lines are shares of the panel, x from the left, y from the top.
  function coast(pen, canvas, colour) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.beginPath();
    for (const points of data.coast) {
      for (let i = 0; i < points.length; i += 2) {
        const [x, y] = [points[i] * canvas.width, points[i + 1] * canvas.height];
        if (i === 0) pen.moveTo(x, y); else pen.lineTo(x, y);
      }
    }
    pen.stroke();
  }

  function cross(pen, canvas) {
    const x = ((state.at.column + 0.5) / columns) * canvas.width;
    const y = ((line(state.at.row) + 0.5) / rows) * canvas.height;
    pen.strokeStyle = "#ffb400";
    pen.lineWidth = 2;
    pen.strokeRect(x - 6, y - 6, 12, 12);
  }

  // The values of a panel at a point over all frames, on the range of the variable.
  async function seriesOf(one, at) {
    const codes = await codesOf(one);
    const range = one.ranges[state.variable];
    return Array.from({ length: frames }, (_, f) => valueOf(codes[(f * rows + at.row) * columns + at.column], range));
  }

  // Mean, spread, members, truth and observations at the point, over time.
  async function meteogram() {
    const at = state.at ?? state.kept;
    byId("meteogram").hidden = data.strip || frames < 2 || !at;
    if (byId("meteogram").hidden) return;
    const find = (key) => data.panels.find((one) => one.key === key);
    const lines = [];
    for (const one of data.panels.filter(({ key }) => key.startsWith(MEMBER))) lines.push({ values: await seriesOf(one, at), colour: "#9aa7b8", wide: 1 });
    for (const [key, colour] of [["matched", "#c2185b"], ["mean", "#2166ac"], ["truth", "#111111"]]) {
      if (find(key)) lines.push({ values: await seriesOf(find(key), at), colour, wide: 2 });
    }
    const mean = await seriesOf(find("mean"), at);
    const spread = find("spread") ? await seriesOf(find("spread"), at) : mean.map(() => 0);
    const dots = find("observations") ? await seriesOf(find("observations"), at) : [];
    // Where the variable ends at its least value (rain), so does the band.
    const floor = find("mean").ranges[state.variable].colours === "rain" ? find("mean").ranges[state.variable].low : -Infinity;
    drawMeteogram({ lines, dots, low: mean.map((v, f) => Math.max(floor, v - spread[f])), high: mean.map((v, f) => v + spread[f]) });
  }

  function drawMeteogram({ lines, dots, low, high }) {
    const canvas = byId("meteogram-canvas");
    const pen = canvas.getContext("2d");
    const shown = [...lines.flatMap(({ values }) => values), ...dots, ...low, ...high].filter(Number.isFinite);
    const [least, most] = [Math.min(...shown), Math.max(...shown)];
    const [left, bottom, top] = [64, canvas.height - 22, 10];
    const x = (f) => left + (f / (frames - 1)) * (canvas.width - left - 12);
    const y = (value) => bottom - ((value - least) / (most - least || 1)) * (bottom - top);
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    const trace = (values) => values.forEach((value, f) => { if (Number.isFinite(value)) pen.lineTo(x(f), y(value)); });
    pen.beginPath();
    trace(high);
    for (let f = frames - 1; f >= 0; f--) if (Number.isFinite(low[f])) pen.lineTo(x(f), y(low[f]));
    pen.fillStyle = "rgba(33, 102, 172, 0.18)";
    pen.fill();
    for (const { values, colour, wide } of lines) {
      pen.beginPath();
      trace(values);
      [pen.strokeStyle, pen.lineWidth] = [colour, wide];
      pen.stroke();
    }
    pen.fillStyle = "#d6604d";
    dots.forEach((value, f) => { if (Number.isFinite(value)) pen.fillRect(x(f) - 3, y(value) - 3, 6, 6); });
    pen.fillStyle = "#444c56";
    pen.font = "12px sans-serif";
    pen.fillText(short(most), 4, top + 8);
    pen.fillText(data.variables[state.variable].unit, 4, (top + bottom) / 2);
    pen.fillText(short(least), 4, bottom);
    pen.fillText(data.times[0].replace("T", " ").slice(0, 16), left, canvas.height - 6);
    const last = data.times[frames - 1].replace("T", " ").slice(0, 16);
    pen.fillText(last, canvas.width - 12 - pen.measureText(last).width, canvas.height - 6);
  }

  function bar(panel) {
    const range = source(panel).ranges[state.variable];
    const pen = panel.bar.getContext("2d");
    const image = pen.createImageData(255, 1);
    image.data.set(tables[range.colours].subarray(0, 255 * 4));
    pen.putImageData(image, 0, 0);
    const middle = valueOf(127, range);
    const unit = range.unit ?? data.variables[state.variable].unit;
    panel.ends.replaceChildren(...[range.low, middle, range.high].map((value, place) => element("span", {}, short(value) + (place === 2 && unit !== "1" ? ` ${unit}` : ""))));
  }

  function describe() {
    byId("frame").value = state.frame;
    byId("time").textContent = data.strip ? "" : `${data.times[state.frame].replace("T", " ").replace(/\.000$/, "")} (${state.frame + 1} of ${frames})`;
    if (!state.at) { byId("readout").textContent = ""; return; }
    const where = (span, place, count) => span[0] + (count > 1 ? (place / (count - 1)) * (span[1] - span[0]) : 0);
    const [yName, xName, unit] = data.axes;
    const x = `${xName} ${short(where(data.x, state.at.column, columns))} ${unit === "1" ? "" : unit}`;
    const y = data.strip ? data.times[state.at.row] : `${yName} ${short(where(data.y, state.at.row, rows))} ${unit === "1" ? "" : unit}`;
    byId("readout").textContent = `At ${y}, ${x}: values beside the names of the panels, in ${data.variables[state.variable].unit}.`;
  }

  const draw = oncePerFrame(async () => {
    const observations = data.panels.find((one) => one.key === "observations");
    const observed = observations ? await codesOf(observations) : null;
    for (const panel of panels) paint(panel, await codesOf(source(panel)), observed);
    await meteogram();
    describe();
  });

  function show(frame) {
    state.frame = (frame + frames) % frames;
    draw();
  }

  function play(on) {
    clearInterval(timer);
    if (on) timer = setInterval(() => show(state.frame + 1), Math.max(120, Math.min(600, 12000 / frames)));
    byId("play").setAttribute("aria-pressed", on);
    byId("play").textContent = on ? "Pause" : "Play";
  }

  function buildPanel(key, label, one) {
    const wide = 480;
    const picture = new Picture(`panel-${key}`, label, {
      columns, rows, style: "field",
      width: wide, height: between(Math.round((wide * rows * data.aspect) / columns), 40, 960),
    });
    const { canvas } = picture;
    const panel = {
      key, source: one, picture,
      value: element("output", {}),
      bar: element("canvas", { class: "bar", width: 255, height: 1, role: "img", "aria-label": `${label}: colours` }),
      ends: element("div", { class: "ends" }),
    };
    canvas.addEventListener("pointermove", (event) => {
      const point = picture.under(event);
      state.at = { column: point.column, row: line(point.row) };
      draw();
    });
    canvas.addEventListener("pointerleave", () => { state.at = null; draw(); });
    canvas.addEventListener("click", (event) => {
      const point = picture.under(event);
      state.kept = { column: point.column, row: line(point.row) };
      draw();
    });
    byId("panels").append(element("figure", {}, element("figcaption", {}, label, panel.value), canvas, panel.bar, panel.ends));
    panels.push(panel);
  }

  function choices(id, labels, key) {
    byId(id).hidden = labels.length < 2;
    buttons(id, labels, (index) => {
      state[key] = index;
      panels.forEach(bar);
      draw();
    });
  }

  function start() {
    for (const one of data.panels) {
      if (!one.key.startsWith(MEMBER)) buildPanel(one.key, one.label, one);
      else if (one.key === `${MEMBER}0`) buildPanel("member", "Member", one);
    }
    const numbers = (count) => Array.from({ length: count }, (_, place) => String(place + 1));
    choices("variables", data.variables.map(({ name }) => name), "variable");
    choices("trajectories", numbers(data.trajectories), "trajectory");
    choices("members", numbers(data.panels.filter(({ key }) => key.startsWith(MEMBER)).length), "member");
    byId("clock").hidden = frames < 2;
    byId("frame").max = frames - 1;
    byId("frame").addEventListener("input", () => { play(false); show(+byId("frame").value); });
    byId("play").addEventListener("click", () => play(byId("play").getAttribute("aria-pressed") !== "true"));
    // Dots on points smaller than a few pixels would hide the field: the panel of observations shows them.
    const roomy = panels.length > 0 && panels[0].picture.canvas.width >= 3 * columns;
    byId("observed-label").hidden = !roomy || !data.panels.some(({ key }) => key === "observations");
    byId("coast-label").hidden = data.coast.length === 0;
    for (const id of ["smooth", "observed", "coast"]) byId(id).addEventListener("change", draw);
    panels.forEach(bar);
    draw();
  }

  begin("fields", start);
})();
