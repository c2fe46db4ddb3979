# How make install and make uninstall do it. DESTDIR is put before every path (a package's folder); PREFIX is where programs live;
# SYSCONFDIR, /etc unless given, holds what an administrator edits, and a file there that has been edited stays.

DESTDIR ?=
SYSCONFDIR ?= /etc
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
SHAREDIR ?= $(PREFIX)/share/embsum
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d

MAN_PAGES := $(wildcard docs/man/*.[158])
UNITS := $(wildcard deploy/systemd/*.service deploy/systemd/*.timer)
# What is neither program nor page: to copy from.
SHARED := $(addprefix deploy/,redis/redis.conf redis/users.acl redis/make-acl nginx/embsum.conf cron/embsum) \
          $(wildcard deploy/prometheus/*.yml deploy/grafana/*.json)
CONFIG := $(SYSCONFDIR)/embsum/embsum.json
PROMPTS := $(wildcard config/prompts/*.txt)

# All paths of files but the configuration, without DESTDIR.
INSTALLED = $(addprefix $(BINDIR)/,embsumd embsum embsum-healthcheck) \
    $(foreach p,$(MAN_PAGES),$(MANDIR)/man$(patsubst .%,%,$(suffix $(p)))/$(notdir $(p))) \
    $(addprefix $(COMPLETIONDIR)/,embsum embsumd) \
    $(addprefix $(UNITDIR)/,$(notdir $(UNITS))) $(SYSUSERSDIR)/embsum.conf \
    $(SHARED:deploy/%=$(SHAREDIR)/%) $(addprefix $(SHAREDIR)/prompts/,$(notdir $(PROMPTS))) $(SHAREDIR)/embsum.json

.PHONY: install uninstall
install:
	$(Q)install -d $(addprefix $(DESTDIR),$(BINDIR) $(COMPLETIONDIR) $(UNITDIR) $(SYSUSERSDIR) $(dir $(CONFIG)))
	$(Q)install -m 755 $(BUILD)/embsumd $(BUILD)/embsum $(DESTDIR)$(BINDIR)
	$(Q)install -m 755 deploy/healthcheck $(DESTDIR)$(BINDIR)/embsum-healthcheck
	$(Q)for page in $(MAN_PAGES); do install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page || exit; done
	$(Q)for name in embsum embsumd; do install -m 644 deploy/completion/embsum.bash $(DESTDIR)$(COMPLETIONDIR)/$$name || exit; done
	$(Q)for unit in $(UNITS); do \
	    sed 's,/usr/local/bin/,$(BINDIR)/,; s,/etc/embsum/,$(SYSCONFDIR)/embsum/,' $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/} && \
	    chmod 644 $(DESTDIR)$(UNITDIR)/$${unit##*/} || exit; done
	$(Q)install -m 644 deploy/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/embsum.conf
	$(Q)for file in $(SHARED); do install -D -m 644 $$file $(DESTDIR)$(SHAREDIR)/$${file#deploy/} || exit; done
	$(Q)install -D -m 644 -t $(DESTDIR)$(SHAREDIR)/prompts $(PROMPTS)
	$(Q)install -m 644 config/embsum.json $(DESTDIR)$(SHAREDIR)/embsum.json
	$(Q)[ -e $(DESTDIR)$(CONFIG) ] || install -m 644 config/embsum.json $(DESTDIR)$(CONFIG)
	$(call say,DONE,"$(DESTDIR)$(BINDIR)/embsumd and what belongs to it")

uninstall:
	$(Q)! cmp -s $(DESTDIR)$(SHAREDIR)/embsum.json $(DESTDIR)$(CONFIG) || rm -f $(DESTDIR)$(CONFIG)
	$(Q)rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	$(Q)cd $(DESTDIR)/ && for dir in $(sort $(dir $(filter $(SHAREDIR)/%,$(INSTALLED)) $(CONFIG))) $(SHAREDIR); do \
	    [ ! -d ./$$dir ] || rmdir --ignore-fail-on-non-empty ./$$dir; done
