#!/usr/bin/env python3
"""What the YAML files under deploy/ say of each other, of the programs and of the router: names that are referred to exist, ports and
probes fit, times fit, nobody has more rights than it needs. Needs PyYAML and the built programs, no network.

    tests/deploy/manifests.py --build build
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import yaml

failures = 0
OURS = "embsum"  # the image's name
FROM_OTHERS = ("deploy/prometheus", "deploy/grafana/embsum.json")


def check(good, what):
    global failures
    if not good:
        failures += 1
        print(f"FAILED: {what}")
    return good


class Loader(yaml.SafeLoader):
    """A key that comes twice is an error, which YAML's own loader lets pass."""


def mapping(loader, node):
    seen = set()
    for key, _ in node.value:
        if key.tag != "tag:yaml.org,2002:merge":
            name = loader.construct_object(key, deep=True)
            if name in seen:
                raise yaml.YAMLError(f"{key.start_mark}: {name} comes twice")
            seen.add(name)
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor("tag:yaml.org,2002:map", mapping)


def load(path):
    with open(path) as file:
        return [document for document in yaml.load_all(file, Loader) if document]


def routes():
    """The paths of the public listener, from the router's table."""
    with open("server/router.c") as file:
        table = file.read().split("routes[] =", 1)[1].split("admin_routes", 1)[0]
    return re.findall(r'\{"(/[^"]*)"', table)


def version():
    with open("Makefile") as file:
        return re.search(r"^VERSION := (\S+)", file.read(), re.M).group(1)


def takes_options(build, words, where):
    """The words call one of our programs with options that it has: --help behind them must not turn into a usage error."""
    program = os.path.join(build, words[0])
    text = subprocess.run([program, words[1], "--help"] if words[0] == "embsum" else [program, "--help"],
                          capture_output=True, text=True, check=False).stdout
    known = set(re.findall(r"^  (--[a-z0-9-]+)", text, re.M))
    unknown = [word for word in words if word.startswith("--") and word not in known]
    check(known and not unknown, f"{where}: {words[0]} has no {unknown or 'help'}")


# ---- compose ----

def command_of(service):
    """The words behind a wrapper: from the program of ours on."""
    words = service.get("command") or []
    for program in ("embsumd", "embsum"):
        if program in words:
            return words[words.index(program):]
    return []


def mounted(volume):
    source, target = (volume.split(":") + [""])[:2] if "${" not in volume else ("", "")
    return source, target


def check_compose(build, targets):
    path = "deploy/compose/compose.yaml"
    compose = load(path)[0]
    folder = os.path.dirname(path)
    used = {"networks": set(), "volumes": set(), "secrets": set()}
    with open("Dockerfile") as file:
        port = re.search(r"^EXPOSE (\d+)", file.read(), re.M).group(1)
    for name, service in compose["services"].items():
        where = f"{path}: {name}"
        check(service.get("read_only") and service.get("cap_drop") == ["ALL"]
              and service.get("security_opt") == ["no-new-privileges:true"], f"{where} is not confined")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        check({"cpus", "memory"} <= set(limits) and service.get("pids_limit"), f"{where} has no limits")
        check(re.search(r":[^:/]*\d", service["image"]), f"{where}: {service['image']} has no version")
        for published in service.get("ports", []):
            check(published.startswith("127.0.0.1:"), f"{where} listens for everybody: {published}")
        for other, condition in (service["depends_on"].items() if isinstance(service.get("depends_on"), dict)
                                 else [(one, {}) for one in service.get("depends_on", [])]):
            healthy = condition.get("condition") == "service_healthy"
            check(other in compose["services"] and not (healthy and "healthcheck" not in compose["services"][other]),
                  f"{where} waits for {other}, which there is not, or which never gets healthy")
        used["networks"].update(service.get("networks", []))
        used["secrets"].update(service.get("secrets", []))
        for volume in service.get("volumes", []):
            source, _ = mounted(volume)
            if source.startswith("."):
                file = os.path.normpath(os.path.join(folder, source))
                missing = not os.path.exists(file)
                if missing and file.startswith(FROM_OTHERS):
                    print(f"skipped: {where} mounts {file}, which is not there")
                else:
                    check(not missing, f"{where} mounts {file}, which is not there")
            elif source:
                used["volumes"].add(source)
        for key, value in service.get("environment", {}).items():
            check(isinstance(value, str), f"{where}: {key} is no text")
            if key.endswith("_FILE") and value.startswith("/run/secrets/"):
                check(os.path.basename(value) in service.get("secrets", []), f"{where}: {key} names a secret that it is not given")
        words = command_of(service)
        if words:
            takes_options(build, words, where)
    for kind, names in used.items():
        check(names == set(compose[kind]), f"{path}: {kind} {names ^ set(compose[kind])} are used and not there, or not used")
    for secret in compose["secrets"].values():
        with open(os.path.join(folder, "prepare")) as file:
            check(os.path.basename(secret["file"]) in file.read(), f"{path}: prepare does not make {secret['file']}")
    daemon = compose["services"]["embsumd"]
    check(daemon["ports"] == [f"127.0.0.1:{port}:{port}"], f"{path}: the image listens on {port}")
    check(daemon["healthcheck"]["test"][-1] in routes(), f"{path}: the daemon has no {daemon['healthcheck']['test'][-1]}")
    for target in targets:
        name = target.split(":")[0]
        shared = set(compose["services"].get(name, {}).get("networks", [])) & set(compose["services"]["prometheus"]["networks"])
        check(shared, f"Prometheus scrapes {target}, and {path} has no such service that it reaches")
    return {service["image"] for service in compose["services"].values() if service["image"].split(":")[0] == OURS}


# ---- Kubernetes ----

def pod_of(thing):
    if thing["kind"] == "Deployment":
        return thing["spec"]["template"]
    if thing["kind"] == "CronJob":
        return thing["spec"]["jobTemplate"]["spec"]["template"]
    return None


def check_pod(name, pod, known, build):
    spec = pod["spec"]
    check(spec["automountServiceAccountToken"] is False, f"{name} is given a token of the cluster")
    context = spec["securityContext"]
    check(context["runAsNonRoot"] and context["seccompProfile"]["type"] == "RuntimeDefault" and context["runAsUser"] == 10001,
          f"{name}: the pod is not restricted")
    volumes = set()
    for volume in spec["volumes"]:
        volumes.add(volume["name"])
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in sources:
            if "configMap" in source:
                check(("ConfigMap", source["configMap"]["name"]) in known, f"{name}: no ConfigMap {source['configMap']['name']}")
            if "persistentVolumeClaim" in source:
                claim = source["persistentVolumeClaim"]["claimName"]
                check(("PersistentVolumeClaim", claim) in known, f"{name}: no claim {claim}")
            if "secret" in source:
                check_secret(name, source["secret"])
    for container in spec["containers"]:
        own = container["securityContext"]
        check(own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"]
              and own["capabilities"] == {"drop": ["ALL"]}, f"{name}: {container['name']} is not restricted")
        check({"requests", "limits"} <= set(container["resources"]), f"{name}: {container['name']} has no limits")
        check({mount["name"] for mount in container["volumeMounts"]} == volumes, f"{name}: volumes and mounts differ")
        for source in container.get("envFrom", []):
            check(("ConfigMap", source["configMapRef"]["name"]) in known, f"{name}: no {source}")
        words = container.get("command", []) + container["args"]
        words = ["embsum", "refresh"] + container["args"] if words[0] == "sh" else words
        takes_options(build, words, name)
        check_probes(name, container)


def check_secret(name, secret):
    """It is there if the commands in kustomization.yaml make it."""
    with open("deploy/kubernetes/kustomization.yaml") as file:
        made = dict(re.findall(r"create secret generic (\S+) (.*)", file.read()))
    secret_name = secret.get("name", secret.get("secretName"))
    keys = re.findall(r"--from-file=(\S+)", made.get(secret_name, ""))
    for item in secret["items"]:
        check(item["key"] in keys, f"{name}: nobody makes {item['key']} of the secret {secret_name}")


def check_probes(name, container):
    ports = {port["name"] for port in container.get("ports", [])}
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        if container["name"] != "embsumd":
            continue
        asked = container[probe]["httpGet"]
        check(asked["path"] == path and path in routes() and asked["port"] in ports, f"{name}: the {probe} asks {asked}")


def resulting_config(build, text):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([os.path.join(build, "embsumd"), "--config", file.name, "--print-config"], capture_output=True,
                              text=True, check=False)
    return json.loads(done.stdout) if check(done.returncode == 0, f"the ConfigMap's embsum.json: {done.stderr}") else None


def exit_code(script, work, stop=False):
    """Of the CronJob's shell, where embsum does this; of one that is stopped when that has begun."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "embsum")
        with open(program, "w") as file:
            file.write(f"#!/bin/sh\n[ \"$1 $2\" = 'refresh --quiet' ] || exit 9\n{work}\n")
        os.chmod(program, 0o755)
        job = subprocess.Popen(script + ["--quiet"], env={"PATH": f"{folder}:/usr/bin:/bin"}, cwd=folder,
                               stderr=subprocess.DEVNULL)
        while stop and not os.path.exists(os.path.join(folder, "begun")):
            time.sleep(0.02)
        if stop:
            job.terminate()
        return job.wait(60)


def check_times(things, config):
    daemon = pod_of(things["Deployment", "embsumd"])["spec"]
    container = daemon["containers"][0]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain = config["server"]["shutdown_timeout_ms"] / 1000
    check(daemon["terminationGracePeriodSeconds"] >= pause + drain + 5, "embsumd is killed while it drains")
    check(pause >= 2 * container["readinessProbe"]["periodSeconds"], "preStop is over before anybody has heard")
    job = things["CronJob", "embsum-refresh"]["spec"]
    template = job["jobTemplate"]["spec"]
    refresh = template["template"]["spec"]["containers"][0]
    seconds = int(refresh["args"][refresh["args"].index("--max-seconds") + 1])
    check(job["concurrencyPolicy"] == "Forbid" and template["backoffLimit"] == 0
          and template["template"]["spec"]["restartPolicy"] == "Never", "refreshes run beside each other, or are repeated")
    check(seconds + 60 <= template["activeDeadlineSeconds"] <= 300 and job["schedule"] == "*/5 * * * *",
          "a refresh is ended before it ends by itself, or after the next is due")
    for code, wanted in ((0, 0), (1, 1), (2, 2), (3, 0)):
        check(exit_code(refresh["command"], f"exit {code}") == wanted, f"the CronJob's shell makes of {code} not {wanted}")
    # It waits until the refresh has ended as it sees fit.
    for code, wanted in ((0, 0), (1, 1), (3, 0)):
        work = f"trap 'sleep 0.2; exit {code}' TERM\n: >begun\nwhile :; do sleep 0.05; done"
        check(exit_code(refresh["command"], work, stop=True) == wanted, f"a stopped CronJob that ends with {code} is not {wanted}")
    check(exit_code(refresh["command"], "kill -9 $$") not in (0, 3), "a refresh that is killed is no failure")


def check_kubernetes(build):
    folder = "deploy/kubernetes"
    kustomization = load(f"{folder}/kustomization.yaml")[0]
    there = {os.path.basename(path) for path in glob.glob(f"{folder}/*.yaml")} - {"kustomization.yaml"}
    check(set(kustomization["resources"]) == there, f"{folder}: {set(kustomization['resources']) ^ there} is not in kustomization.yaml")
    things, images = {}, set()
    for path in sorted(there):
        for thing in load(f"{folder}/{path}"):
            key = thing["kind"], thing["metadata"]["name"]
            check(key not in things, f"{key} comes twice")
            things[key] = thing
    labels = []
    for (kind, name), thing in things.items():
        pod = pod_of(thing)
        if not pod:
            continue
        labels.append(pod["metadata"]["labels"])
        check_pod(f"{kind} {name}", pod, things, build)
        images.update(container["image"] for container in pod["spec"]["containers"])
        if kind == "Deployment":
            wanted = thing["spec"]["selector"]["matchLabels"].items()
            check(wanted <= pod["metadata"]["labels"].items(), f"{name} does not select its own pods")
    fits = lambda wanted: any(wanted.items() <= label.items() for label in labels)
    for kind in ("Service", "PodDisruptionBudget"):
        selector = things[kind, "embsumd"]["spec"]["selector"]
        check(fits(selector.get("matchLabels", selector)), f"{kind} selects nobody")
    target = things["HorizontalPodAutoscaler", "embsumd"]["spec"]["scaleTargetRef"]
    check((target["kind"], target["name"]) in things, "the autoscaler scales nobody")
    daemon = pod_of(things["Deployment", "embsumd"])["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in daemon["ports"]}
    check(all(port["targetPort"] in ports for port in things["Service", "embsumd"]["spec"]["ports"]), "the service's port is nobody's")
    for (kind, name), thing in things.items():
        if kind != "NetworkPolicy":
            continue
        selector = thing["spec"]["podSelector"]
        check(not selector or "matchExpressions" in selector or fits(selector["matchLabels"]), f"{name} is for nobody")
        for expression in selector.get("matchExpressions", []):
            check(all(fits({expression["key"]: value}) for value in expression["values"]), f"{name} is for nobody")
        for rule in thing["spec"].get("ingress", []):
            check(all(port["port"] in ports for port in rule["ports"]), f"{name}: a port that nobody has")
    config = resulting_config(build, things["ConfigMap", "embsumd"]["data"]["embsum.json"])
    if config:
        check(config["server"]["listen"].endswith(f":{ports['http']}"), "the daemon listens on another port than the pod's")
        cores = int(daemon["resources"]["limits"]["cpu"])
        check(config["server"]["workers"] == cores, "as many workers as cores")
        mounts = [mount["mountPath"] for mount in daemon["volumeMounts"]]
        for key, section in (("token_file", "server"), ("password_file", "store")):
            check(os.path.dirname(config[section][key]) in mounts, f"{section}.{key} is not mounted")
        check(os.path.dirname(daemon["args"][-1]) in mounts, "the configuration is not mounted")
        check_times(things, config)
    for image in kustomization["images"]:
        check(f"{image['name']}:{image['newTag']}" in images, f"kustomization.yaml renames {image}, which nobody has")
    return images


# ---- the rest ----

def check_lines(build):
    """The cron line and the units start programs with options that they have, a refresh with the same ones."""
    refreshes = {}
    with open("deploy/cron/embsum") as file:
        refreshes["deploy/cron/embsum"] = file.read()
    for path in glob.glob("deploy/systemd/*.service"):
        with open(path) as file:
            command = re.search(r"^ExecStart=((?:.*\\\n)*.*)", file.read(), re.M).group(1).replace("\\\n", " ")
        words = command.split()
        words[0] = os.path.basename(words[0])
        takes_options(build, words, path)
        if words[1] == "refresh":
            refreshes[path] = command
    line = [text for text in refreshes["deploy/cron/embsum"].splitlines() if text and text[0] in "*0123456789"]
    check(len(line) == 1, "deploy/cron/embsum has one line")
    words = line[0].split()
    takes_options(build, words[words.index("embsum", 6):], "deploy/cron/embsum")
    options = [set(re.findall(r" (--[a-z-]+)", text.split("embsum refresh", 1)[1])) - {"--store"}
               for text in (line[0], refreshes["deploy/systemd/embsum-refresh.service"])]
    check(options[0] == options[1], f"cron and systemd refresh with different options: {options[0] ^ options[1]}")
    limits = [int(re.search(pattern, line[0]).group(1)) for pattern in (r"--max-seconds (\d+)", r"timeout -k \d+ (\d+)")]
    check(limits[0] < 300 < limits[1], "a refresh ends before the next is due, and is ended later than that")


def check_nginx():
    with open("deploy/nginx/embsum.conf") as file:
        locations = re.findall(r"location (= )?(/\S*)", file.read())
    for route in routes():
        exact = not route.endswith("/") or route == "/"
        check(("= " if exact else "", route) in locations, f"deploy/nginx/embsum.conf does not let {route} through")


def without_targets(config):
    """The configuration, and the targets of each of its jobs."""
    targets = {}
    for job in config["scrape_configs"]:
        targets[job["job_name"]] = [target for group in job["static_configs"] for target in group.pop("targets")]
    return config, targets


def scrape_targets():
    """Of Prometheus in compose, whose configuration differs from the shipped one in them alone."""
    path, shipped = "deploy/compose/prometheus.yml", "deploy/prometheus/prometheus.yml"
    config, targets = without_targets(load(path)[0])
    if os.path.exists(shipped):
        check(without_targets(load(shipped)[0])[0] == config, f"{path} and {shipped} differ in more than targets")
        for name in config["rule_files"]:
            check(os.path.exists(f"deploy/prometheus/{name}"), f"{path} names {name}, which is not there")
    return [target for some in targets.values() for target in some]


def check_provisioning():
    [source] = load("deploy/grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"]
    compose = load("deploy/compose/compose.yaml")[0]
    check(re.match(r"http://(\w+):", source["url"]).group(1) in compose["services"], "Grafana's source is no service")
    [provider] = load("deploy/grafana/provisioning/dashboards/embsum.yaml")[0]["providers"]
    targets = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    check(any(os.path.dirname(target) == provider["options"]["path"] for target in targets), "the dashboard is not mounted")
    if os.path.exists("deploy/grafana/embsum.json"):
        with open("deploy/grafana/embsum.json") as file:
            uids = set(re.findall(r'"type":\s*"prometheus",\s*"uid":\s*"([^"]*)"', file.read()))
        check(all(uid.startswith("$") or uid == source["uid"] for uid in uids), f"the dashboard's sources are {uids}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=os.environ.get("BUILD", "build"))
    build = parser.parse_args().build
    images = check_compose(build, scrape_targets()) | check_kubernetes(build)
    check(images == {f"{OURS}:{version()}"}, f"the images are {images}, the Makefile's version is {version()}")
    check_lines(build)
    check_nginx()
    check_provisioning()
    print("the manifests fit together" if not failures else f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
