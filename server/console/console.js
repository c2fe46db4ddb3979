"use strict";
/* The console asks what any client may ask: /metrics every two seconds, and /rank, /users/, /contents/ and /hot when
 * somebody does something. In this order: small things, asking, the state from the metrics, the form, the ranking,
 * the explanation, the start.
 *
 * Text from outside becomes text nodes, nothing is parsed as HTML. Of style only widths are set, through the object
 * model, as the page's policy forbids styles in the markup. */

/* ---- the theme, before anything is drawn ---- */

const themeKey = "embsum-console-theme";

function readTheme() {
    try {
        return localStorage.getItem(themeKey) ?? "";
    } catch {
        return ""; /* storage is switched off */
    }
}

function useTheme(theme) {
    if (theme === "light" || theme === "dark")
        document.documentElement.dataset.theme = theme;
    else
        delete document.documentElement.dataset.theme;
}

useTheme(readTheme());

/* ---- making elements, writing numbers ---- */

const $ = (id) => document.getElementById(id);

function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (value === undefined || value === null || value === false)
            continue;
        if (typeof value === "function")
            node.addEventListener(name.slice(2), value); /* onclick: "click" */
        else
            node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
    return node;
}

function el(tag, attributes = {}, ...children) {
    return build(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
    return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function setText(id, text) {
    if ($(id).textContent !== text)
        $(id).textContent = text;
}

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const count = (value) => whole.format(value);
const plural = (value, one, many = one + "s") => `${count(value)} ${value === 1 ? one : many}`;

function few(value) {
    if (value === 0)
        return "0";
    return value >= 100 ? count(value) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/* A bucket's bound, which is a round number. */
function bound(seconds) {
    const plain = (value) => String(Number(value.toPrecision(6)));
    return seconds < 0.001 ? `${plain(seconds * 1e6)} µs` : seconds < 1 ? `${plain(seconds * 1e3)} ms` : `${plain(seconds)} s`;
}

function percent(share, digits = 1) {
    return `${(100 * share).toFixed(digits)}\u00a0%`;
}

function duration(seconds) {
    if (seconds < 0.001)
        return `${few(seconds * 1e6)}\u00a0µs`;
    return seconds < 1 ? `${few(seconds * 1e3)}\u00a0ms` : `${few(seconds)}\u00a0s`;
}

function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; value >= 1024 && unit < units.length - 1; unit++)
        value /= 1024;
    return `${unit ? few(value) : count(value)} ${units[unit]}`;
}

function age(seconds) {
    if (seconds < 60)
        return `${Math.max(0, Math.floor(seconds))} s`;
    if (seconds < 3600)
        return `${Math.floor(seconds / 60)} min`;
    if (seconds < 86400)
        return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
    return plural(Math.floor(seconds / 86400), "day");
}

function sentence(text) {
    return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/* For those who listen to the page. */
function say(text) {
    $("say").textContent = text;
}

/* ---- asking ---- */

const tokenKey = "embsum-console-token";
let token = "";

class Refused extends Error {
    constructor(status, error, retryAfter) {
        super(error.message ?? "the answer is not embsumd's");
        this.status = status;
        this.code = error.code ?? "unknown";
        this.requestId = error.request_id ?? "";
        this.retryAfter = retryAfter;
    }
}

class Away extends Error {
    constructor() {
        super("embsumd does not answer");
    }
}

async function request(path, options = {}) {
    try {
        const signal = options.signal ?? AbortSignal.timeout(8000);
        const response = await fetch(path, {...options, cache: "no-store", signal});
        return {response, text: await response.text()};
    } catch (error) {
        if (error.name === "AbortError")
            throw error;
        throw new Away();
    }
}

function parse(text) {
    try {
        return JSON.parse(text);
    } catch {
        return {};
    }
}

async function ask(path, options = {}) {
    const headers = {...options.headers};
    if (token)
        headers.Authorization = `Bearer ${token}`;
    const {response, text} = await request(path, {...options, headers});
    const body = parse(text);
    if (!response.ok)
        throw new Refused(response.status, body.error ?? {}, response.headers.get("Retry-After"));
    return {body, timing: response.headers.get("Server-Timing") ?? ""};
}

/* A daemon that does not know of titles refuses the key, by name: it is asked without from then on. */
let titles = true;

async function askRank(body) {
    const post = (sent) => ask("rank", {
        method: "POST",
        headers: {"Content-Type": "application/json"},
        body: JSON.stringify(sent),
    });
    if (!titles)
        return post(body);
    try {
        return await post({...body, titles: true});
    } catch (error) {
        if (error.status !== 400 || !error.message.includes('"titles"'))
            throw error;
        titles = false;
        return post(body);
    }
}

function hot(kind, prefix, limit, signal) {
    const query = new URLSearchParams({kind, limit});
    /* The daemon takes a plus for a plus. */
    return ask(`hot?${query}&prefix=${encodeURIComponent(prefix)}`, {signal});
}

function showError(box, error) {
    box.replaceChildren();
    box.hidden = !error;
    if (!error)
        return;
    if (error instanceof Refused) {
        box.append(el("strong", {}, `${error.status} ${error.code}`), el("p", {}, error.message),
            el("p", {class: "under"}, "Request ", el("code", {}, error.requestId || "without an id"),
                error.retryAfter && `; try again in ${error.retryAfter} s`));
        if (error.status === 401)
            box.append(el("button", {type: "button", onclick: openToken}, "Enter a token"));
    } else if (error instanceof Away) {
        box.append(el("strong", {}, "No answer"), el("p", {}, `${error.message}. Try again when it is back.`));
    } else {
        box.append(el("strong", {}, "The console has failed"), el("p", {}, error.message));
        console.error(error);
    }
}

/* ---- what the metrics say ---- */

const spanMs = 60000; /* "the last minute" */
const samples = [];   /* the newest last */

class Sample {
    constructor(text, now) {
        this.at = performance.now();
        this.now = now; /* the daemon's clock, seconds */
        this.series = new Map();
        for (const line of text.split("\n")) {
            const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
            if (!match)
                continue;
            const labels = {};
            for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
                labels[name] = value.replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
            if (!this.series.has(match[1]))
                this.series.set(match[1], []);
            this.series.get(match[1]).push({labels, value: Number(match[3])});
        }
    }

    rows(name, where = {}) {
        const wanted = Object.entries(where);
        return (this.series.get(name) ?? []).filter(({labels}) => wanted.every(([k, v]) => labels[k] === v));
    }

    sum(name, where) {
        return this.rows(name, where).reduce((sum, row) => sum + row.value, 0);
    }

    get generation() {
        return this.rows("embsum_generation_info")[0]?.labels;
    }

    /* [upper bound in seconds, how many up to it], of all series of /rank together. */
    buckets() {
        const sums = new Map();
        for (const {labels, value} of this.rows("embsum_http_request_duration_seconds_bucket", {route: "/rank"})) {
            const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
            sums.set(bound, (sums.get(bound) ?? 0) + value);
        }
        return [...sums].sort((a, b) => a[0] - b[0]);
    }
}

function keep(sample) {
    const last = samples.at(-1);
    const answered = (of) => of.sum("embsum_http_requests_total");
    if (last && answered(sample) < answered(last))
        samples.length = 0; /* another daemon, whose counters begin anew */
    samples.push(sample);
    while (samples.length > 2 && sample.at - samples[0].at > spanMs)
        samples.shift();
}

/* How much a counter has grown in the last minute; those of hot memory begin anew with a generation. */
function grown(name, where) {
    const now = samples.at(-1).sum(name, where), before = samples[0].sum(name, where);
    return now < before ? now : now - before;
}

/* Requests in each bucket by itself: in the last minute, or where there were none, ever. */
function latencies() {
    const ever = samples.at(-1).buckets(), before = new Map(samples[0].buckets());
    const apart = (of) => of.map(([bound, upTo], i) => [bound, upTo - (i ? of[i - 1][1] : 0)]);
    const lately = apart(ever.map(([bound, upTo]) => [bound, upTo - (before.get(bound) ?? 0)]));
    const recent = lately.some(([, requests]) => requests > 0);
    return {recent, rows: recent ? lately : apart(ever)};
}

/* As Prometheus' histogram_quantile(): even inside of a bucket. */
function quantile(rows, share) {
    const all = rows.reduce((sum, [, requests]) => sum + requests, 0);
    let left = share * all, from = 0;
    for (const [bound, requests] of rows) {
        if (requests > 0 && left <= requests)
            return bound === Infinity ? from : from + (bound - from) * left / requests;
        left -= requests;
        from = bound;
    }
    return NaN;
}

/* ---- the state, drawn ---- */

function drawGeneration(sample) {
    const info = sample.generation;
    setText("generation", info?.generation ?? "none");
    setText("generation-age", info
        ? `made ${age(sample.now - sample.sum("embsum_generation_created_timestamp_seconds"))} ago, ` +
            `loaded ${age(sample.now - sample.sum("embsum_generation_loaded_timestamp_seconds"))} ago; ` +
            `${info.m} × ${info.n} codes of ${info.d}`
        : "not in memory");
    for (const [id, kind] of [["contents", "content"], ["users", "user"]]) {
        setText(id, info ? count(sample.sum("embsum_hot_entries", {kind})) : "–");
        setText(`${id}-under`, info ? `in memory, of ${count(sample.sum(`embsum_generation_${id}`))}` : "\u00a0");
    }
}

function rankings(from, to) {
    const name = "embsum_http_requests_total", where = {route: "/rank"};
    const seconds = (to.at - from.at) / 1000;
    return seconds > 0 ? Math.max(0, to.sum(name, where) - from.sum(name, where)) / seconds : 0;
}

function drawSpark() {
    const rates = samples.slice(1).map((sample, i) => rankings(samples[i], sample));
    const most = Math.max(...rates, 1e-9), last = samples.at(-1).at, area = $("spark");
    area.setAttribute("viewBox", "0 0 100 20");
    area.setAttribute("preserveAspectRatio", "none");
    const points = rates.map((rate, i) =>
        `${(100 - (last - samples[i + 1].at) / spanMs * 100).toFixed(1)},${(19 - 18 * rate / most).toFixed(1)}`);
    area.replaceChildren(svg("polyline", {points: points.join(" ")}));
}

function drawLatency() {
    const {recent, rows} = latencies(), all = rows.reduce((sum, [, requests]) => sum + requests, 0);
    setText("median", all ? duration(quantile(rows, 0.5)) : "–");
    setText("tail", all ? `99 % within ${duration(quantile(rows, 0.99))}` : "\u00a0");
    $("latency").hidden = !all;
    setText("latency-span", !all ? "No request yet."
        : `${plural(all, "request")} ${recent ? "in the last minute" : "since the daemon started"}`);
    if (!all)
        return;
    const counts = rows.map(([, requests]) => requests), longest = Math.max(...counts);
    const first = Math.max(0, counts.findIndex(Boolean) - 1), last = counts.findLastIndex(Boolean) + 1;
    drawRows($("latency").tBodies[0], rows.slice(first, last + 1).map(([most, requests]) => ({
        name: most === Infinity ? "slower" : `≤ ${bound(most)}`,
        text: count(requests),
        share: requests / longest,
    })));
}

/* Rows of a name, a bar and a number, of which those that stay are kept, so that bars move and do not jump. */
function drawRows(body, rows) {
    while (body.rows.length > rows.length)
        body.lastChild.remove();
    while (body.rows.length < rows.length)
        body.append(el("tr", {}, el("th", {scope: "row"}), el("td", {},
            el("div", {class: "line"}, el("span", {class: "track", "aria-hidden": "true"}, el("i")), el("span", {class: "num"})))));
    rows.forEach(({name, text, share}, i) => {
        const row = body.rows[i];
        row.firstChild.textContent = name;
        row.querySelector(".num").textContent = text;
        row.querySelector("i").style.width = `${100 * share}%`;
    });
}

function hitRatio(kind) {
    let hits = grown("embsum_hot_hits_total", {kind}), misses = grown("embsum_hot_misses_total", {kind});
    const recent = hits + misses > 0;
    if (!recent) {
        hits = samples.at(-1).sum("embsum_hot_hits_total", {kind});
        misses = samples.at(-1).sum("embsum_hot_misses_total", {kind});
    }
    if (hits + misses === 0)
        return "nothing looked up yet";
    return `${percent(hits / (hits + misses))} of look-ups found ${recent ? "in the last minute" : "so far"}`;
}

function drawMemory(sample) {
    if (!sample.generation) {
        $("memory").replaceChildren(el("p", {class: "hint"}, "No generation is in memory."));
        return;
    }
    const kinds = [["Contents", "content"], ["Users", "user"]];
    if (!$("memory").querySelector(".store"))
        $("memory").replaceChildren(...kinds.map(([name, kind]) => el("div", {class: "store", "data-kind": kind},
            el("p", {class: "top"}, el("b", {}, name), el("span", {class: "size"})),
            el("div", {class: "meter", role: "meter", "aria-label": `Memory of ${name.toLowerCase()} in use`,
                "aria-valuemin": 0, "aria-valuemax": 100}, el("i")),
            el("p", {class: "hint"}))));
    for (const [, kind] of kinds) {
        const box = $("memory").querySelector(`[data-kind=${kind}]`), meter = box.querySelector(".meter");
        const used = sample.sum("embsum_hot_bytes", {kind}), limit = sample.sum("embsum_hot_limit_bytes", {kind});
        const share = limit ? used / limit : 0, evicted = sample.sum("embsum_hot_evictions_total", {kind});
        box.querySelector(".size").textContent =
            `${count(sample.sum("embsum_hot_entries", {kind}))} in ${bytes(used)} of ${bytes(limit)}`;
        meter.setAttribute("aria-valuenow", Math.round(100 * share));
        meter.firstChild.style.width = `${100 * share}%`;
        box.querySelector(".hint").textContent =
            `${hitRatio(kind)}; ${evicted ? count(evicted) : "none"} forgotten for others`;
    }
}

/* Counters that should stand still, and what they are called here. */
const troubles = [
    ["embsum_store_errors_total", "Store"],
    ["embsum_missing_total", "Candidate"],
    ["embsum_shed_total", "Refused, too busy"],
    ["embsum_blobs_refused_total", "Matrix refused"],
    ["embsum_generation_refusals_total", "Generation refused"],
    ["embsum_http_connections_refused_total", "Connection refused"],
    ["embsum_http_connections_cut_total", "Connection too slow"],
    ["embsum_sandbox_refused_total", "System call refused by the sandbox"],
];

function drawTrouble(sample) {
    const titled = (title, labels) => [title, ...Object.values(labels)].join(": ").replaceAll("_", " ");
    const rows = troubles.flatMap(([name, title]) => sample.rows(name).filter(({value}) => value > 0)
        .map(({labels, value}) => [titled(title, labels), grown(name, labels), value]));
    for (const {labels, value} of sample.rows("embsum_http_requests_total", {route: "/rank"}))
        if (Number(labels.code) >= 400)
            rows.push([`Ranking answered ${labels.code}`, grown("embsum_http_requests_total", labels), value]);
    $("trouble").hidden = rows.length === 0;
    $("trouble-none").hidden = rows.length > 0;
    $("trouble").tBodies[0].replaceChildren(...rows.map(([name, lately, ever]) => el("tr", {},
        el("th", {scope: "row"}, name), el("td", {class: "number"}, count(lately)), el("td", {class: "number"}, count(ever)))));
}

function drawStore(sample) {
    const away = sample.sum("embsum_store_breaker_open") > 0, errors = grown("embsum_store_errors_total");
    setText("store", away ? "away" : "answers");
    $("store").className = `value ${away ? "bad" : "good"}`;
    setText("store-under", away ? "what is in memory is ranked"
        : `${errors ? plural(errors, "error") : "no error"} in the last minute`);
    return away;
}

let shownState = "";

/* The pill says it in a word, the notice in full; what is said already is not said again. */
function showState(state, word, strong, ...lines) {
    const key = [state, word, strong, ...lines].join("\n");
    if (key === shownState)
        return;
    if (shownState && !strong)
        say(`embsumd: ${word}`);
    shownState = key;
    $("status").dataset.state = state;
    setText("status", word);
    $("notice").className = `callout ${state}`;
    $("notice").hidden = !strong;
    $("notice").replaceChildren(...strong ? [el("strong", {}, strong), ...lines.map((line) => el("p", {}, line))] : []);
}

async function drawState(sample, storeAway) {
    const refused = sample.rows("embsum_generation_refused_info")[0]?.labels;
    const why = refused && `Generation ${refused.generation} was refused: ${refused.reason}`;
    if (sample.sum("embsum_ready") === 0) {
        const {text} = await request("readyz");
        showState("bad", "Not ready", "embsumd is up and cannot rank yet",
            why ?? sentence(parse(text).error?.message ?? "it does not say why"),
            storeAway ? "The store does not answer." : "embsum refresh fills the store; the daemon takes what is live there within a second.");
    } else if (storeAway) {
        showState("warn", "Store away", "The store does not answer",
            "What is in memory is ranked, the rest is reported as unavailable.");
    } else if (why) {
        showState("warn", "Behind", "The live generation in the store is not the one in memory", why,
            `Ranking goes on with ${sample.generation.generation}.`);
    } else {
        showState("good", "Ready");
    }
}

async function drawVersion() {
    const {text} = await request("version"), it = parse(text);
    const numbers = it.kernel ? `scores in ${it.dtype}, kernel ${it.kernel}` : `scores in ${it.dtype}`;
    setText("build", it.version ? `embsumd ${it.version}, ${numbers}` : "\u00a0");
}

/* ---- asking for it again and again ---- */

const everyMs = 2000, hiddenMs = 15000, longestMs = 5000;
let failures = 0, told = "", timer = 0;

async function look() {
    clearTimeout(timer);
    try {
        const {response, text} = await request("metrics", {signal: AbortSignal.timeout(4000)});
        const date = Date.parse(response.headers.get("Date") ?? "");
        if (!response.ok)
            throw new Away();
        const sample = new Sample(text, (Number.isNaN(date) ? Date.now() : date) / 1000);
        const back = failures > 0;
        failures = 0;
        keep(sample);
        await draw(sample, back);
    } catch (error) {
        if (!(error instanceof Away))
            console.error(error);
        else
            lose();
    }
    const pause = failures ? Math.min(500 * 2 ** failures, longestMs) : document.hidden ? hiddenMs : everyMs;
    clearTimeout(timer);
    timer = setTimeout(look, pause);
}

async function draw(sample, back) {
    drawGeneration(sample);
    setText("rate", few(rankings(samples[0], sample)));
    drawSpark();
    drawLatency();
    drawMemory(sample);
    drawTrouble(sample);
    await drawState(sample, drawStore(sample));
    const now = `${sample.generation?.generation} ${sample.generation?.kernel}`;
    if (back || now !== told) {
        titles ||= back; /* it may be another one that has come back */
        told = now;
        await drawVersion();
    }
    if (sample.generation)
        await fillOnce();
}

function lose() {
    failures++;
    const last = samples.at(-1), when = last && new Date(last.now * 1000).toLocaleTimeString("en-GB");
    showState("bad", "Away", "embsumd does not answer",
        `${when ? `What this page shows is from ${when}.` : "It has not answered yet."} The page asks again by itself.`);
}

/* ---- the form: ids with completion ---- */

/* An input and its list, by the combobox pattern of WAI-ARIA's practices: the focus stays in the input. */
class Combo {
    constructor(name, kind, pick) {
        this.input = $(name);
        this.list = $(`${name}-list`);
        this.kind = kind;
        this.pick = pick;
        this.active = -1;
        this.input.addEventListener("input", () => this.later());
        this.input.addEventListener("click", () => this.later());
        this.input.addEventListener("blur", () => this.close());
        this.list.addEventListener("mousedown", (event) => event.preventDefault()); /* keeps the focus */
        this.list.addEventListener("click", (event) => {
            const option = event.target.closest("[role=option]");
            if (option)
                this.choose(option);
        });
    }

    get options() {
        return [...this.list.children];
    }

    later() {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.open(), 120);
    }

    async open() {
        this.asking?.abort();
        this.asking = new AbortController();
        const prefix = this.input.value.trim();
        try {
            const {body} = await hot(this.kind, prefix, 20, this.asking.signal);
            if (document.activeElement === this.input && this.input.value.trim() === prefix)
                this.show(body.ids);
        } catch (error) {
            if (error.name !== "AbortError")
                this.close(); /* ids can be typed without help */
        }
    }

    show(ids) {
        this.list.replaceChildren(...ids.map((id, i) =>
            el("li", {role: "option", id: `${this.list.id}-${i}`, "aria-selected": "false"}, id)));
        this.set(-1);
        this.list.hidden = ids.length === 0;
        this.input.setAttribute("aria-expanded", String(ids.length > 0));
        say(ids.length ? `${plural(ids.length, "id")} in memory, arrow keys choose` : "no id in memory begins like this");
    }

    close() {
        clearTimeout(this.timer);
        this.asking?.abort();
        this.list.hidden = true;
        this.input.setAttribute("aria-expanded", "false");
        this.set(-1);
    }

    set(active) {
        this.active = active;
        this.options.forEach((option, i) => option.setAttribute("aria-selected", String(i === active)));
        if (active < 0) {
            this.input.removeAttribute("aria-activedescendant");
            return;
        }
        this.input.setAttribute("aria-activedescendant", this.options[active].id);
        this.options[active].scrollIntoView({block: "nearest"});
    }

    choose(option) {
        this.pick(option.textContent);
        this.close();
    }

    /* True: the key is used up. */
    key(event) {
        const last = this.options.length - 1;
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            if (this.list.hidden)
                this.open();
            else if (event.key === "ArrowDown")
                this.set(this.active < last ? this.active + 1 : 0);
            else
                this.set(this.active > 0 ? this.active - 1 : last);
        } else if (event.key === "Enter" && this.active >= 0) {
            this.choose(this.options[this.active]);
        } else if (event.key === "Escape" && !this.list.hidden) {
            this.close();
        } else {
            return false;
        }
        event.preventDefault();
        return true;
    }
}

const shownChips = 100;
const candidates = new Set();
let userBox, candidateBox;

function drawChips() {
    const all = [...candidates], chips = all.slice(0, shownChips).map((id) => el("li", {}, el("span", {}, id),
        el("button", {type: "button", "aria-label": `Remove ${id}`, onclick: (event) => removeChip(event, id)}, "×")));
    if (all.length > shownChips)
        chips.push(el("li", {class: "rest"}, `and ${count(all.length - shownChips)} more`));
    $("chips").replaceChildren(...chips);
    $("chips").tabIndex = chips.length > 30 ? 0 : -1; /* it scrolls then */
    drawCurl();
}

function removeChip(event, id) {
    const at = [...$("chips").children].indexOf(event.currentTarget.closest("li"));
    candidates.delete(id);
    drawChips();
    const next = $("chips").children[Math.min(at, $("chips").children.length - 1)];
    (next?.querySelector("button") ?? candidateBox.input).focus();
    say(`${id} removed, ${plural(candidates.size, "candidate")} left`);
}

function addCandidates(ids) {
    const before = candidates.size;
    ids.filter(Boolean).forEach((id) => candidates.add(id));
    drawChips();
    say(`${plural(candidates.size - before, "candidate")} added, ${count(candidates.size)} in all`);
}

const split = (text) => text.split(/[\s,]+/);

function takeTyped() {
    candidateBox.close();
    addCandidates(split(candidateBox.input.value));
    candidateBox.input.value = "";
}

function candidateKey(event) {
    const input = candidateBox.input;
    if (candidateBox.key(event))
        return;
    if (event.key === "Enter" && input.value.trim()) {
        event.preventDefault();
        takeTyped();
    } else if (event.key === "Backspace" && !input.value && candidates.size) {
        const last = [...candidates].at(-1);
        candidates.delete(last);
        drawChips();
        say(`${last} removed`);
    }
}

function candidateTyped() {
    if (/[\s,]/.test(candidateBox.input.value))
        takeTyped();
}

/* Ten of a hundred that are in memory, drawn by lot. */
async function fillCandidates() {
    const {body} = await hot("content", "", 100);
    const left = body.ids.filter((id) => !candidates.has(id));
    for (let i = left.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [left[i], left[j]] = [left[j], left[i]];
    }
    addCandidates(left.slice(0, 10));
}

let filled = false;
const emptyText = "Nothing is ranked yet. Choose a user and candidates, then press Rank.";
const coldText = "Nothing is in memory yet that could be proposed: type ids that you know, or rank the whole catalogue.";

/* With the first generation that is seen: something to press Rank on, unless somebody was faster. */
async function fillOnce() {
    if (filled)
        return;
    filled = true;
    try {
        const {body} = await hot("user", "", 1);
        userBox.input.value ||= body.ids[0] ?? "";
        if (!candidates.size)
            await fillCandidates();
        drawCurl();
        setText("empty", candidates.size ? emptyText : coldText);
    } catch (error) {
        if (error.status === 401)
            setText("empty", "This daemon ranks for those who have a token: enter it at the top of the page.");
        else
            filled = error.status < 500; /* what may pass is tried again */
    }
}

/* ---- the form: what is asked ---- */

const wholeCatalogue = () => document.querySelector("[name=from]:checked").value === "all";

function readForm() {
    const body = {user: userBox.input.value.trim()}, top = $("top").value.trim();
    if (!wholeCatalogue())
        body.candidates = [...candidates];
    else if ($("category").value)
        body.category = $("category").value;
    if (top)
        body.top_k = Number(top);
    return body;
}

function complain(id, text) {
    setText(`${id}-error`, text);
    if (text)
        $(id).setAttribute("aria-invalid", "true");
    else
        $(id).removeAttribute("aria-invalid");
    return text ? [$(id)] : [];
}

/* Says what is missing; the first of the inputs that are wrong gets the focus. */
function isComplete(body) {
    const wrong = [
        ...complain("user", body.user ? "" : "A user's id is needed."),
        ...complain("candidate", body.candidates?.length === 0 ? "At least one candidate is needed." : ""),
        ...complain("top", Number.isInteger(body.top_k) && body.top_k > 0 ? ""
            : body.top_k === undefined && body.candidates ? "" : "A whole number of at least 1 is needed."),
    ];
    wrong[0]?.focus();
    return wrong.length === 0;
}

function drawCurl() {
    const quoted = JSON.stringify(readForm()).replaceAll("'", "'\\''");
    const url = new URL("rank", document.baseURI);
    $("curl").textContent = `curl -s ${url} -H 'Content-Type: application/json' \\\n` +
        (token ? `    -H "Authorization: Bearer $TOKEN" \\\n` : "") + `    -d '${quoted}'`;
}

function chooseSource() {
    $("these").hidden = wholeCatalogue();
    $("all").hidden = !wholeCatalogue();
    drawCurl();
}

/* ---- the ranking ---- */

let asked = null; /* the ranking that is shown: {user, status, generation} */
let turn = 0;     /* an answer to an earlier question comes too late */

async function rank(event) {
    event.preventDefault();
    if (candidateBox.input.value.trim())
        takeTyped();
    const body = readForm();
    if (!isComplete(body) || $("rank").getAttribute("aria-disabled"))
        return;
    const mine = ++turn, start = performance.now();
    $("rank").setAttribute("aria-disabled", "true");
    try {
        const answer = await askRank(body);
        if (mine === turn)
            drawRanking(answer, body, performance.now() - start);
    } catch (error) {
        if (mine === turn)
            failRanking(error);
    } finally {
        $("rank").removeAttribute("aria-disabled");
    }
}

function failRanking(error) {
    showError($("error"), error);
    setText("ranking-title", "Ranking");
    $("result").hidden = $("empty").hidden = true;
    $("why").hidden = true;
    $("error").scrollIntoView({block: "nearest"});
}

const statuses = {
    present: "known to this generation",
    default: "unknown: ranked as a reader without a history",
    corrupt: "damaged in the store",
    unavailable: "not read: the store did not answer in time",
};
const reasons = {
    not_found: "not in this generation",
    corrupt: "damaged in the store",
    unavailable: "the store did not answer in time",
};
const degradations = {
    store_unavailable: "the store does not answer, so what is not in memory is missing",
    user_corrupt: "the user's own matrix is damaged, so the default user stands in",
};

function fact(name, ...value) {
    return el("span", {}, `${name} `, ...value);
}

function serverMs(timing) {
    return [...timing.matchAll(/dur=([\d.]+)/g)].reduce((sum, [, ms]) => sum + Number(ms), 0);
}

function drawFacts(answer, body, roundMs) {
    const {body: it, timing} = answer, total = body.candidates?.length;
    $("facts").replaceChildren(
        fact("User", el("b", {class: it.user_status === "present" ? "" : "warned"}, statuses[it.user_status] ?? it.user_status)),
        fact("Shown", el("b", {}, count(it.ranking.length)), total ? ` of ${plural(total, "candidate")}` : " of the catalogue"),
        fact("Daemon", el("b", {}, duration(serverMs(timing) / 1000)), `, with the way there and back ${duration(roundMs / 1000)}`),
        fact("Generation", el("code", {}, it.generation)));
    $("degraded").hidden = !it.degraded;
    $("degraded").replaceChildren(el("strong", {}, "Degraded"),
        ...(it.degraded ?? []).map((what) => el("p", {}, sentence(degradations[what] ?? what))));
}

/* A bar from zero to the score, on a scale that holds zero and all scores. */
function bar(score, low, high) {
    const span = high - low || 1, zero = -low / span, share = Math.abs(score) / span;
    const fill = el("i", {class: score < 0 ? "low" : ""});
    fill.style.left = `${100 * (score < 0 ? zero - share : zero)}%`;
    fill.style.width = `max(1px, ${100 * share}%)`;
    const track = el("span", {class: "track", "aria-hidden": "true"}, fill);
    if (low < 0) {
        const axis = el("b");
        axis.style.left = `${100 * zero}%`;
        track.append(axis);
    }
    return track;
}

function rankedRow(item, place, low, high) {
    const pick = el("button", {type: "button", class: "pick", "aria-pressed": "false"},
        item.title || item.id, el("span", {class: "unseen"}, ", explain"));
    const row = el("tr", {"data-id": item.id},
        el("td", {class: "place"}, String(place)),
        el("th", {scope: "row"}, pick, item.title && el("span", {class: "id"}, item.id)),
        el("td", {class: "score"}, el("div", {class: "line"}, bar(item.score, low, high),
            el("span", {class: "num"}, item.score.toFixed(4)))));
    row.addEventListener("click", () => explain(item, row));
    return row;
}

function drawMissing({missing, missing_count: all}) {
    const list = $("missing").querySelector("ul");
    $("missing").hidden = missing.length === 0;
    list.replaceChildren(...missing.map(({id, reason}) => el("li", {}, el("code", {}, id), reasons[reason] ?? reason)));
    if (all > missing.length)
        list.append(el("li", {}, `and ${count(all - missing.length)} more`));
}

const shownRows = 1000; /* a longer table helps nobody, and a browser slowly */

function drawRanking(answer, body, roundMs) {
    const it = answer.body, scores = it.ranking.map(({score}) => score);
    asked = {user: it.user, status: it.user_status, generation: it.generation};
    showError($("error"), null);
    $("empty").hidden = $("why").hidden = true;
    $("result").hidden = false;
    setText("ranking-title", `Ranking for ${it.user}`);
    drawFacts(answer, body, roundMs);
    const low = Math.min(0, scores.at(-1) ?? 0), high = Math.max(0, scores[0] ?? 0);
    $("list").hidden = scores.length === 0;
    $("list").tBodies[0].replaceChildren(
        ...it.ranking.slice(0, shownRows).map((item, i) => rankedRow(item, i + 1, low, high)));
    $("more").hidden = scores.length <= shownRows;
    setText("more", `and ${count(scores.length - shownRows)} more, which are not shown`);
    drawMissing(it);
    const best = it.ranking[0];
    say(best ? `${plural(scores.length, "content")} ranked for ${it.user}, the best is ${best.title || best.id}` : "nothing could be ranked");
    if ($("ranking").getBoundingClientRect().top > window.innerHeight * 0.6)
        $("ranking").scrollIntoView({block: "start"});
}

/* ---- the explanation ---- */

let drawn = null; /* what the heat map shows, to be drawn again when its room changes */

async function explain(item, row) {
    const mine = ++turn, from = asked;
    for (const other of $("list").tBodies[0].rows) {
        other.classList.toggle("chosen", other === row);
        other.querySelector(".pick").setAttribute("aria-pressed", String(other === row));
    }
    const body = {user: from.user, candidates: [item.id], top_k: 1, explain: true};
    try {
        const [answer, summary, content] = await Promise.all([askRank(body), readSummary(from), readContent(item)]);
        if (mine === turn)
            drawWhy(item, answer.body, summary, content);
    } catch (error) {
        if (mine === turn)
            failWhy(item, error);
    }
}

/* The rest of an explanation does not depend on it. */
async function readSummary({user, status}) {
    if (status !== "present")
        return {none: `${user} is ${statuses[status] ?? status}: there is no summary.`};
    try {
        const {body} = await ask(`users/${encodeURIComponent(user)}`);
        return body.summary ? {text: body.summary} : {none: "No summary is stored of this user."};
    } catch (error) {
        return {none: `The summary could not be read: ${error.message}.`};
    }
}

async function readContent(item) {
    if (!titles)
        return {};
    try {
        return (await ask(`contents/${encodeURIComponent(item.id)}`)).body;
    } catch {
        return {};
    }
}

function showWhy(item, title) {
    $("why").hidden = false;
    setText("why-title", title ? `Why “${title}”` : `Why ${item.id}`);
    $("why-title").focus({preventScroll: true});
    $("why").scrollIntoView({block: "start"});
}

function failWhy(item, error) {
    showError($("why-error"), error);
    $("why-body").hidden = true;
    showWhy(item, item.title);
}

const pairName = (u, c) => `u${u} × c${c}`;

function drawWhy(item, answer, summary, content) {
    const it = answer.ranking[0];
    if (!it?.weights) {
        failWhy(item, new Refused(200, {code: "gone", message: "The content is no longer in the store."}));
        return;
    }
    showError($("why-error"), null);
    $("why-body").hidden = false;
    const title = it.title || content.title || item.title;
    $("why-id").replaceChildren(fact("Content", el("code", {}, item.id)),
        ...(content.categories ?? []).map((category) => fact("Category", el("b", {}, category))),
        fact("Score", el("b", {}, it.score.toFixed(4))));
    $("summary").textContent = summary.text ?? summary.none;
    $("summary").className = summary.text ? "" : "none";
    drawn = it;
    drawSentence(it);
    drawPairs(it);
    drawWeights(it);
    showWhy(item, title);
    drawHeat();
}

function drawSentence({score, weights, top_pairs: pairs}) {
    const m = weights.length, n = weights[0].length;
    const held = pairs.reduce((sum, {weight}) => sum + weight, 0);
    const added = pairs.reduce((sum, {weight, similarity}) => sum + weight * similarity, 0);
    $("why-sentence").textContent = `${m} vectors of the reader (u) meet ${n} of the content (c). The score is the mean of ` +
        `their ${count(m * n)} similarities, each counted by its weight. The ${plural(pairs.length, "pair")} marked here ` +
        `${pairs.length === 1 ? "holds" : "hold"} ${percent(held)} of the weight and ${pairs.length === 1 ? "adds" : "add"} ` +
        `${added.toFixed(4)} of ${score.toFixed(4)}.`;
}

function named(list, name) {
    return list.map((each) => `${name(each)} ${percent(each.weight, 0)}`).join(" · ");
}

/* A pair's numbers, and below them what its two vectors look at, where the generation knows. */
function pairRows({user_code: u, content_code: c, weight, similarity, items, tokens}, i) {
    const ring = (on) => $("heat").querySelector(`[data-ring="${i}"]`)?.classList.toggle("hot", on);
    const hover = {onpointerenter: () => ring(true), onpointerleave: () => ring(false)};
    const known = items?.length || tokens?.length;
    return [
        el("tr", {...hover, class: known ? "above" : ""},
            el("th", {scope: "row"}, el("span", {class: "badge"}, String(i + 1)), pairName(u, c)),
            ...[percent(weight), similarity.toFixed(4), (weight * similarity).toFixed(4)].map((text) => el("td", {class: "number"}, text))),
        known && el("tr", hover, el("td", {colspan: 4, class: "from"},
            items?.length && el("p", {}, el("b", {}, `u${u} reads `), named(items, ({id, title}) => title || id || "the summary")),
            tokens?.length && el("p", {}, el("b", {}, `c${c} reads `), named(tokens, ({text}) => `“${text}”`)))),
    ];
}

function drawPairs({top_pairs: pairs}) {
    $("pairs").tBodies[0].replaceChildren(...pairs.flatMap(pairRows).filter(Boolean));
}

function drawWeights({weights, top_pairs: pairs}) {
    const place = new Map(pairs.map(({user_code: u, content_code: c}, i) => [`${u} ${c}`, i + 1]));
    $("weights").tHead.replaceChildren(el("tr", {}, el("th", {scope: "col"}, "Reader"),
        ...weights[0].map((_, c) => el("th", {scope: "col", class: "number"}, `c${c}`))));
    $("weights").tBodies[0].replaceChildren(...weights.map((row, u) => el("tr", {}, el("th", {scope: "row"}, `u${u}`),
        ...row.map((weight, c) => {
            const marked = place.get(`${u} ${c}`);
            return el("td", {class: marked ? "top" : ""}, (100 * weight).toFixed(2),
                marked && el("span", {class: "unseen"}, `, number ${marked}`));
        }))));
}

/* Reader's codes run across, in as many bands as the room wants; the content's, which are few, run down. */
const levels = 9, leftPx = 28, topPx = 20, leastPx = 17, mostPx = 56, heightPx = 28, gapPx = 12;

function heatLayout(m, n, width) {
    const fits = Math.max(1, Math.floor((width - leftPx) / leastPx)), bands = Math.ceil(m / fits), across = Math.ceil(m / bands);
    const cell = Math.min(mostPx, Math.floor((width - leftPx) / across)), bandPx = topPx + n * heightPx + gapPx;
    return {
        cell,
        across,
        width: leftPx + across * cell + 2,
        height: bands * bandPx - gapPx + 2,
        x: (u) => leftPx + u % across * cell + 1,
        y: (u, c) => Math.floor(u / across) * bandPx + topPx + c * heightPx,
    };
}

function heatLabels(m, n, at) {
    const labels = [], every = at.cell >= 30 ? 1 : at.cell >= 22 ? 2 : 4;
    for (let u = 0; u < m; u++)
        if (u % at.across % every === 0)
            labels.push(svg("text", {x: at.x(u) + at.cell / 2, y: at.y(u, 0) - 6, "text-anchor": "middle"}, `u${u}`));
    for (let u = 0; u < m; u += at.across)
        for (let c = 0; c < n; c++)
            labels.push(svg("text", {x: leftPx - 6, y: at.y(u, c) + heightPx / 2, "text-anchor": "end", "dominant-baseline": "central"}, `c${c}`));
    return labels;
}

function drawHeat() {
    const width = $("heat").clientWidth;
    if (!drawn || !width) /* 0: it is not shown */
        return;
    const {weights, top_pairs: pairs} = drawn, m = weights.length, n = weights[0].length;
    const at = heatLayout(m, n, width), most = Math.max(...weights.flat());
    const level = (weight) => Math.min(levels - 1, Math.floor(levels * weight / most));
    const cells = weights.flatMap((row, u) => row.map((weight, c) => svg("rect", {class: `cell h${level(weight)}`,
        x: at.x(u), y: at.y(u, c), width: at.cell, height: heightPx, "data-u": u, "data-c": c})));
    const marks = pairs.flatMap(({user_code: u, content_code: c, weight}, i) => [
        svg("rect", {class: "ring", "data-ring": i, x: at.x(u) + 1, y: at.y(u, c) + 1, width: at.cell - 2, height: heightPx - 2, "pointer-events": "none"}),
        svg("text", {class: `rank r${level(weight)}`, x: at.x(u) + at.cell / 2, y: at.y(u, c) + heightPx / 2}, String(i + 1))]);
    const heaviest = pairs.map(({user_code: u, content_code: c, weight}) => `${pairName(u, c)} ${percent(weight)}`).join(", ");
    $("heat").replaceChildren(svg("svg", {role: "img", width: at.width, height: at.height, viewBox: `0 0 ${at.width} ${at.height}`,
        "aria-label": `Heat map of ${m} times ${n} weights. The heaviest: ${heaviest}. A table of all follows.`,
        onpointermove: readOut, onpointerleave: () => setText("readout", "")}, ...heatLabels(m, n, at), ...cells, ...marks));
    drawLegend(most);
}

function readOut(event) {
    const {u, c} = event.target.dataset;
    setText("readout", u === undefined ? "" :
        `${pairName(u, c)}: weight ${percent(drawn.weights[u][c], 2)}, similarity ${drawn.similarities[u][c].toFixed(4)}`);
}

function drawLegend(most) {
    const swatches = Array.from({length: levels}, (_, i) => svg("rect", {class: `h${i}`, x: i * 16, y: 0, width: 16, height: 12}));
    $("legend").replaceChildren("weight 0", svg("svg", {viewBox: "0 0 144 12", "aria-hidden": "true"}, ...swatches), percent(most),
        el("span", {class: "marked"}, "the heaviest"));
}

function goBack() {
    const chosen = $("list").querySelector(".chosen .pick");
    $("ranking").scrollIntoView({block: "start"});
    (chosen ?? $("ranking-title")).focus({preventScroll: true});
}

/* ---- the token ---- */

/* What a token file may hold (config/REFERENCE.md); anything else could not be sent. */
const tokenShape = /^[A-Za-z0-9\-._~+/=]{1,255}$/;

function useToken(text) {
    token = text;
    try {
        if (text)
            sessionStorage.setItem(tokenKey, text);
        else
            sessionStorage.removeItem(tokenKey);
    } catch {
        /* kept by this page alone */
    }
    setText("token-state", text ? "set" : "none");
    drawCurl();
}

function submitToken(event) {
    event.preventDefault();
    const text = $("token").value.trim();
    if (text && !tokenShape.test(text)) {
        $("token").setAttribute("aria-invalid", "true");
        setText("token-hint", "A token is made of letters, digits and any of - . _ ~ + / =");
        return;
    }
    $("token").removeAttribute("aria-invalid");
    useToken(text);
    $("token-box").open = false;
    $("token-box").querySelector("summary").focus();
    say(text ? "The token is set" : "No token is set");
    filled = candidates.size > 0;
    look();
}

function forgetToken() {
    $("token").value = "";
    useToken("");
    say("The token is forgotten");
}

function openToken() {
    $("token-box").open = true;
    $("token").focus();
}

function closeToken(event) {
    const box = $("token-box");
    if (!box.open || (event.type === "keydown" ? event.key !== "Escape" : box.contains(event.target)))
        return;
    box.open = false;
    if (event.type === "keydown")
        box.querySelector("summary").focus();
}

/* ---- the start ---- */

function setUpForm() {
    userBox = new Combo("user", "user", (id) => {
        userBox.input.value = id;
        drawCurl();
    });
    candidateBox = new Combo("candidate", "content", (id) => {
        candidateBox.input.value = "";
        addCandidates([id]);
    });
    userBox.input.addEventListener("keydown", (event) => userBox.key(event));
    candidateBox.input.addEventListener("keydown", candidateKey);
    candidateBox.input.addEventListener("input", candidateTyped);
    $("form").addEventListener("submit", rank);
    $("form").addEventListener("input", drawCurl);
    $("fill").addEventListener("click", () => fillCandidates().catch(failRanking));
    $("clear").addEventListener("click", () => {
        candidates.clear();
        drawChips();
        candidateBox.input.focus();
        say("no candidates");
    });
    document.querySelectorAll("[name=from]").forEach((radio) => radio.addEventListener("change", chooseSource));
    chooseSource();
}

function setUpTheme() {
    const chosen = readTheme();
    document.querySelectorAll("[name=theme]").forEach((radio) => {
        radio.checked = radio.value === chosen;
        radio.addEventListener("change", () => {
            useTheme(radio.value);
            try {
                localStorage.setItem(themeKey, radio.value);
            } catch {
                /* for this page alone */
            }
        });
    });
}

function setUpToken() {
    let kept = "";
    try {
        kept = sessionStorage.getItem(tokenKey) ?? "";
    } catch {
        /* storage is switched off */
    }
    useToken(kept);
    $("token-form").addEventListener("submit", submitToken);
    $("token-forget").addEventListener("click", forgetToken);
    document.addEventListener("keydown", closeToken);
    document.addEventListener("pointerdown", closeToken);
}

document.addEventListener("DOMContentLoaded", () => {
    setUpTheme();
    setUpForm();
    setUpToken();
    $("back").addEventListener("click", goBack);
    new ResizeObserver(drawHeat).observe($("why"));
    document.addEventListener("visibilitychange", () => document.hidden || look());
    look();
});
