{{ config(materialized="table", schema="Marts") }}
with paid as (select * from {{ ref("stg_orders") }} where state = 'paid')
select customer_id, sum(amount) as total from paid group by customer_id
