-- POST /rank by wrk: bodies are made before the run, so that sending them costs next to nothing.
--
--     CANDIDATES=1000 CONTENTS=100000 USERS=1000 wrk -t1 -c8 -d10s -s rank.lua --latency http://127.0.0.1:8080
--
-- All parameters come from the environment; README.md lists them. The run ends with one line of JSON.

local function number(name, default)
    local text = os.getenv(name)
    if not text or text == "" then
        return default
    end
    return tonumber(text) or error(name .. ": " .. text .. " is not a number")
end

local function lines(path)
    local list = {}
    for line in io.lines(path) do
        if line ~= "" then
            list[#list + 1] = line
        end
    end
    assert(#list > 0, path .. " holds no ids")
    return list
end

-- Ids are the lines of a file, or a prefix and a number from 0.
local function ids(file_name, prefix_name, prefix, count_name, count)
    local path = os.getenv(file_name)
    if path and path ~= "" then
        local list = lines(path)
        return #list, function(i) return list[i + 1] end
    end
    prefix = os.getenv(prefix_name) or prefix
    return number(count_name, count), function(i) return prefix .. i end
end

local function quote(id)
    return '"' .. id:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

local threads = {}

function setup(thread)
    threads[#threads + 1] = thread
    thread:set("number_of_thread", #threads)
end

local requests, at = {}, 0

function init(args)
    local candidates, top_k = number("CANDIDATES", 100), number("TOP_K", 0)
    local contents, content = ids("CONTENT_IDS", "CONTENT_PREFIX", "N", "CONTENTS", 1000)
    local users, user = ids("USER_IDS", "USER_PREFIX", "U", "USERS", 100)
    local token = os.getenv("TOKEN_FILE")
    local headers = { ["Content-Type"] = "application/json" }
    if token and token ~= "" then
        headers["Authorization"] = "Bearer " .. lines(token)[1]
    end
    assert(candidates <= contents, "CANDIDATES is more than CONTENTS")
    math.randomseed(number("SEED", 1) * 1000 + number_of_thread)
    for i = 1, number("BODIES", 256) do
        local list, seen = {}, {}
        while #list < candidates do
            local index = math.random(0, contents - 1)
            if not seen[index] then
                seen[index] = true
                list[#list + 1] = quote(content(index))
            end
        end
        local body = '{"user":' .. quote(user(math.random(0, users - 1)))
        if candidates > 0 then
            body = body .. ',"candidates":[' .. table.concat(list, ",") .. "]"
        end
        if top_k > 0 then
            body = body .. ',"top_k":' .. top_k
        end
        requests[i] = wrk.format("POST", os.getenv("RANK_PATH") or "/rank", headers, body .. "}")
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

-- wrk itself counts every status above 399. CHECK=1 looks at each answer, which costs the load generator more than
-- sending it does.
wrong, checked = 0, 0
if os.getenv("CHECK") == "1" then
    function response(status, headers, body)
        checked = checked + 1
        if status ~= 200 or not body:find('"ranking"', 1, true) then
            wrong = wrong + 1
        end
    end
end

function done(summary, latency, _)
    local seconds, bad, looked = summary.duration / 1e6, 0, 0
    for _, thread in ipairs(threads) do
        bad, looked = bad + thread:get("wrong"), looked + thread:get("checked")
    end
    local e = summary.errors
    print(string.format('{"requests": %d, "seconds": %.3f, "requests_per_second": %.1f, "latency_us": {"mean": %.0f, ' ..
        '"p50": %d, "p90": %d, "p99": %d, "max": %d}, "bytes": %d, "status_errors": %d, "connect_errors": %d, ' ..
        '"read_errors": %d, "write_errors": %d, "timeouts": %d, "checked": %d, "wrong": %d}',
        summary.requests, seconds, summary.requests / seconds, latency.mean, latency:percentile(50),
        latency:percentile(90), latency:percentile(99), latency.max, summary.bytes, e.status, e.connect, e.read,
        e.write, e.timeout, looked, bad))
end
