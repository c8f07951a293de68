"""Applies the stack without an account, releases on it up to the rollback and on, and takes it down.

An emulator (moto) is the account, and a stage stands in front of it: it serves CodeDeploy, ECS and the
registry, and takes over load balancer, alarms, database and secrets as Terraform makes them. Terraform
and `release` are told one endpoint by their environment and nothing else; the target of the releases is
Terraform's own output. Run by terraform/check, with the emulator's Python, which has boto3.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import boto3

NAME = "serein-demo"  # application.name of release/release.toml
REGION = "eu-west-1"
SPEED = 20  # the stage's seconds in one of ours

# What a plan says when these are set is told below, and nothing else.
CHANGES = {
    "TF_VAR_alarms": '{ target_5xx = 20, latency_statistic = "Average" }',
    "TF_VAR_environment": '{ GREETING = "hello" }',
    "TF_VAR_bootstrap_image": "busybox:1.37.1",
}
CHANGED = {
    'module.deployment.aws_cloudwatch_metric_alarm.group["serein-demo-a-target-5xx"]': ["update"],
    'module.deployment.aws_cloudwatch_metric_alarm.group["serein-demo-b-target-5xx"]': ["update"],
    "module.service.aws_ecs_task_definition.bootstrap": ["delete", "create"],
    "module.service.aws_ecs_task_definition.one_off": ["delete", "create"],
}


class Failed(Exception):
    """Something is not as it must be."""


def check(holds, what):
    if not holds:
        raise Failed(what)


def die_with_parent():
    """Asks the kernel to end this process when its parent ends, however that ends."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def free_ports(count):
    """Ports that nobody listens on; all are open at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(url):
    """Whether somebody answers there, and be it with an error."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(0.1)


class Rehearsal:
    def __init__(self, options):
        self.options = options
        self.work = options.work
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.moto, self.api, production, test = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self.api}"
        self.production = f"http://127.0.0.1:{production}"
        self.ports = {"production": production, "test": test}
        self.children = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_VAR_"))},
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "stage",
            "AWS_SECRET_ACCESS_KEY": "stage",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "TF_DATA_DIR": str(self.work / "data"),
            "TF_VAR_name": NAME,
            "TF_VAR_https": "false",
            "TF_VAR_test_cidrs": '["127.0.0.1/32"]',
            "TF_VAR_ports": f"{{ production = {production}, test = {test} }}",
            "TF_VAR_database": '{ sslmode = "prefer" }',  # the stage's PostgreSQL has no certificate
            "TF_VAR_alarms": '{ latency_statistic = "Average" }',  # nor its metrics percentiles
            "TF_VAR_termination_wait_minutes": "2",
            "TF_VAR_secrets": '["session-key"]',
            "TF_VAR_github": '{ repository = "example/shop" }',
            "TF_VAR_hook_zip": str(options.bundles / "hook.zip"),
            "TF_VAR_hook_environment": '{ HOOK_PATHS = "/ /healthz/ready", HOOK_CRITICAL_PATHS = "/" }',
            "TF_VAR_cdn": "false",  # moto forgets the origin access control of a distribution
        }
        self.tree = self.work / "terraform"
        shutil.copytree(
            options.terraform, self.tree, ignore=shutil.ignore_patterns(".terraform", "tests", "examples", "*.tfstate*")
        )
        # A dropped connection is tried again, an operation that the emulator lacks is not tried for minutes.
        (self.tree / "retries_override.tf").write_text('provider "aws" {\n  max_retries = 3\n}\n')
        self.target = self.work / "target.json"

    def client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="stage",
            aws_secret_access_key="stage",
        )

    # ---- programs ----

    def begin(self, name, *command):
        log = open(self.work / f"{name}.log", "wb")
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        self.children.append((name, child))

    def run(self, name, command, codes=(0,), **environment):
        log = self.work / f"{name}.log"
        with open(log, "wb") as out:
            done = subprocess.run(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.work,
                env={**self.environment, **environment},
                check=False,
            )
        if done.returncode not in codes:
            sys.stdout.write(log.read_text(errors="replace")[-6000:])
            raise Failed(f"{name}: exit code {done.returncode} instead of {codes}; its log is {log}")
        return done.returncode

    def terraform(self, name, *arguments, codes=(0,), **environment):
        return self.run(name, ["terraform", f"-chdir={self.tree}", *arguments], codes, **environment)

    def end(self):
        for _, child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for name, child in self.children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                print(f"{name} does not end: killed")
                child.kill()

    # ---- what is proven ----

    def account(self):
        self.begin("moto", str(self.options.moto), "-H", "127.0.0.1", "-p", str(self.moto))
        until(lambda: answers(f"http://127.0.0.1:{self.moto}/moto-api/"), 60, "the emulator")
        self.begin(
            "stage",
            str(self.options.release),
            *("stage", "--upstream", f"http://127.0.0.1:{self.moto}", "--bundles", str(self.options.bundles)),
            *("--api-port", str(self.api), "--port", str(self.ports["production"])),
            *("--test-port", str(self.ports["test"]), "--speed", str(SPEED), "--traffic", "200"),
        )
        until(lambda: answers(self.endpoint), 60, "the stage")

    def apply(self):
        self.terraform("init", "init", "-no-color", "-lockfile=readonly")
        self.terraform("apply", "apply", "-no-color", "-auto-approve", "-parallelism=30")

    def plan(self, name, codes, **environment):
        code = self.terraform(
            name, "plan", "-no-color", "-detailed-exitcode", f"-out={self.work / name}", codes=(0, 2), **environment
        )
        shown = subprocess.run(
            ["terraform", f"-chdir={self.tree}", "show", "-json", str(self.work / name)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        changes = {
            change["address"]: change["change"]["actions"]
            for change in json.loads(shown.stdout)["resource_changes"]
            if change["change"]["actions"] not in (["no-op"], ["read"])
        }
        check(code in codes, f"{name}: exit code {code}, changes {json.dumps(changes, indent=2)}")
        return changes

    def plan_is_empty(self, name, **environment):
        self.plan(name, (0,), **environment)

    def no_secrets(self):
        """Neither state nor plan nor the log of apply has the value of a secret in it."""
        secrets = self.client("secretsmanager")
        listed = secrets.list_secrets()["SecretList"]
        check(len(listed) == 2, f"the database's secret and one of ours: {[one['Name'] for one in listed]}")
        values = []
        for secret in listed:
            value = secrets.get_secret_value(SecretId=secret["ARN"])["SecretString"]
            values.append(json.loads(value)["password"] if value.startswith("{") else value)
        plans = [path for path in self.work.iterdir() if path.name.startswith("plan-") and path.suffix == ""]
        check(plans, "no plan to look into")
        texts = {path.name: path.read_bytes() for path in [*self.tree.glob("*.tfstate*"), self.work / "apply.log"]}
        for plan in plans:
            with zipfile.ZipFile(plan) as archive:
                texts |= {f"{plan.name}/{name}": archive.read(name) for name in archive.namelist()}
        for name, text in texts.items():
            for value in values:
                check(value.encode() not in text, f"{name} has the value of a secret in it")

    def outputs(self):
        with open(self.target, "wb") as out:
            subprocess.run(
                ["terraform", f"-chdir={self.tree}", "output", "-json", "release"],
                env=self.environment,
                stdout=out,
                check=True,
            )
        target = json.loads(self.target.read_text())
        check(target["urls"]["production"] == self.production, "the load balancer is the stage's")
        check(target["repository"] == f"127.0.0.1:{self.api}/{NAME}", "the registry is the stage's")

    def release(self, version, code, *arguments):
        self.run(
            "-".join(["release", version, *arguments[1:]]),
            [
                str(self.options.release),
                *(version, "--target", str(self.target), "--bundles", str(self.options.bundles)),
                *("--record", str(self.work / f"{version}.jsonl"), *arguments),
            ],
            (code,),
        )

    def serving(self):
        """The version that users meet, and the definition that the service has."""
        request = urllib.request.Request(self.production, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            version = json.load(answer)["version"]
        services = self.client("ecs").describe_services(cluster=NAME, services=[NAME])["services"]
        return version, services[0]["taskDefinition"]

    def rolled_back(self):
        """2.0.0 was stopped by one of Terraform's alarms in Terraform's canary, and rolled back."""
        codedeploy = self.client("codedeploy")
        ids = codedeploy.list_deployments(applicationName=NAME, deploymentGroupName=NAME)["deployments"]
        rollback, release = (codedeploy.get_deployment(deploymentId=one)["deploymentInfo"] for one in ids[:2])
        check(rollback["creator"] == "codeDeployRollback" and rollback["status"] == "Succeeded", str(rollback))
        check(release["deploymentConfigName"] == f"{NAME}-canary-10p-5m", release["deploymentConfigName"])
        problem = release["errorInformation"]
        check(problem["code"] == "ALARM_ACTIVE", str(problem))
        check(any(f"{NAME}-{group}-target-5xx" in problem["message"] for group in "ab"), str(problem))
        version, _ = self.serving()
        check(version == "1.0.0", f"after the rollback {version} serves")
        # The emulator's listener has what CodeDeploy left.
        balancers = self.client("elbv2")
        arn = balancers.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        listeners = balancers.describe_listeners(LoadBalancerArn=arn)["Listeners"]
        actions = [one["DefaultActions"][0] for one in listeners if one["Port"] == self.ports["production"]]
        weights = sorted(group["Weight"] for group in actions[0]["ForwardConfig"]["TargetGroups"])
        check(weights == [0, 100], f"weights of the production listener: {weights}")

    def alarms_are_ok(self):
        """The stage has told of every red alarm that it is OK again: a deployment would be stopped at once."""

        def red():
            told = [line.split(" alarm ", 1)[1].split() for line in self.stage_log().splitlines() if " alarm  " in line]
            # The last word on each: `NAME is ALARM: …` or `NAME is OK again`.
            last = {name: state for name, _, state, *_ in told}
            return any(state.startswith("ALARM") for state in last.values())

        until(lambda: not red(), 120, "the alarms are OK again")

    def stage_log(self):
        return (self.work / "stage.log").read_text()

    def refused_by_the_hook(self):
        """2.0.0 was tried by Terraform's function through the test listener, and no user met it."""
        self.release("2.0.0", 3, "--strategy", "guarded")
        codedeploy = self.client("codedeploy")
        ids = codedeploy.list_deployments(applicationName=NAME, deploymentGroupName=NAME)["deployments"]
        problem = codedeploy.get_deployment(deploymentId=ids[1])["deploymentInfo"]["errorInformation"]
        check(problem["code"] == "HOOK_EXECUTION_FAILURE", str(problem))
        target = codedeploy.get_deployment_target(deploymentId=ids[1], targetId=f"{NAME}:{NAME}")
        events = {one["lifecycleEventName"]: one["status"] for one in target["deploymentTarget"]["ecsTarget"]["lifecycleEvents"]}
        check((events["AfterAllowTestTraffic"], events["AllowTraffic"]) == ("Failed", "Skipped"), str(events))

    def real_changes(self):
        """What Terraform's is still shows, is applied, and releases and rolls back nothing."""
        before = self.serving()
        changes = self.plan("plan-changed", (2,), **CHANGES)
        check(changes == CHANGED, f"the plan of a change has {json.dumps(changes, indent=2)}")
        self.environment |= {**CHANGES, "TF_VAR_protect": "false"}
        self.terraform("apply-changed", "apply", "-no-color", "-auto-approve", "-parallelism=30")
        check(self.serving() == before, f"{before} served before, and now {self.serving()}")
        self.plan_is_empty("plan-after-the-change")

    def destroy(self):
        self.terraform("destroy", "destroy", "-no-color", "-auto-approve", "-parallelism=30")
        left = {}
        for service, operation, member in [
            ("elbv2", "describe_load_balancers", "LoadBalancers"),
            ("elbv2", "describe_target_groups", "TargetGroups"),
            ("rds", "describe_db_instances", "DBInstances"),
            ("rds", "describe_db_snapshots", "DBSnapshots"),
            ("rds", "describe_db_subnet_groups", "DBSubnetGroups"),
            ("s3", "list_buckets", "Buckets"),
            ("ecr", "describe_repositories", "repositories"),
            ("lambda", "list_functions", "Functions"),
            ("logs", "describe_log_groups", "logGroups"),
            ("cloudwatch", "describe_alarms", "MetricAlarms"),
            ("iam", "list_roles", "Roles"),
            ("iam", "list_open_id_connect_providers", "OpenIDConnectProviderList"),
            ("secretsmanager", "list_secrets", "SecretList"),
            ("kms", "list_aliases", "Aliases"),
            ("ec2", "describe_nat_gateways", "NatGateways"),
            ("ec2", "describe_addresses", "Addresses"),
            ("ecs", "list_clusters", "clusterArns"),
            ("codedeploy", "list_applications", "applications"),
        ]:
            found = getattr(self.client(service), operation)()[member]
            # Aliases of AWS's own keys and deleted gateways are shown for ever, or for a while.
            found = [one for one in found if "alias/aws/" not in str(one) and "'deleted'" not in str(one)]
            if found:
                left[f"{service} {operation}"] = found
        vpcs = self.client("ec2").describe_vpcs()["Vpcs"]
        left |= {one["VpcId"]: one for one in vpcs if not one["IsDefault"]}
        check(not left, f"left behind: {json.dumps(left, default=str, indent=2)}")

    def everything(self):
        steps = [
            ("an emulator, and a stage in front of it", self.account),
            ("terraform apply", self.apply),
            ("the second plan is empty", lambda: self.plan_is_empty("plan-second")),
            ("no secret in state or plan", self.no_secrets),
            ("its output is the target", self.outputs),
            ("release 1.0.0, all at once", lambda: self.release("1.0.0", 0, "--strategy", "blue-green")),
            ("release 2.0.0: rolled back", lambda: self.release("2.0.0", 3)),
            ("by Terraform's alarm, in its canary", self.rolled_back),
            ("its alarms are OK again", self.alarms_are_ok),
            ("release 2.0.0 guarded: refused by the hook", self.refused_by_the_hook),
            ("the plan is empty after the rollbacks", lambda: self.plan_is_empty("plan-after-the-rollback")),
            ("release 2.0.1", lambda: self.release("2.0.1", 0)),
            ("the plan is empty after releases", lambda: self.plan_is_empty("plan-after-releases")),
            ("real changes show, and release nothing", self.real_changes),
            ("terraform destroy leaves nothing", self.destroy),
        ]
        for name, step in steps:
            begun = time.monotonic()
            try:
                step()
            except Exception:
                print(f"FAIL {time.monotonic() - begun:5.0f} s  {name}", flush=True)
                raise
            print(f"PASS {time.monotonic() - begun:5.0f} s  {name}", flush=True)


def main():
    die_with_parent()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option in ("terraform", "work", "moto", "bundles", "release"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    options = parser.parse_args()
    for path in (options.release, options.bundles, options.bundles / "hook.zip"):
        if not path.exists():
            sys.exit(f"there is no {path}: ./rehearse 2.0.0 and nix/host/bundles build them")
    rehearsal = Rehearsal(options)
    try:
        rehearsal.everything()
    except Failed as problem:
        sys.exit(f"{problem}\nlogs are in {rehearsal.work}")
    finally:
        rehearsal.end()


if __name__ == "__main__":
    main()
