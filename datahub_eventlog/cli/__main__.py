from datahub_eventlog.cli import main

main(prog_name="datahub-eventlog")
